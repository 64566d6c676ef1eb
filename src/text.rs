//! Texts that somebody else wrote, made fit for a message or a terminal.

/// Cuts a text that somebody else wrote to what a message can bear: no control characters, no line
/// of hundreds of characters.
pub(crate) fn shown(text: &str) -> String {
    if text.len() < MAX_SHOWN && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len().min(MAX_SHOWN));
    for character in text.chars() {
        if clean.len() >= MAX_SHOWN {
            clean.push('…');
            break;
        }
        push_escaped(&mut clean, character);
    }
    clean
}

/// The whole text, fit for a terminal: no control characters, nothing that turns the direction of
/// writing, one line.
pub(crate) fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    text.chars().for_each(|character| push_escaped(&mut clean, character));
    clean
}

/// Tells whether a terminal would obey the character, or hide it, rather than show it.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_escaped(clean: &mut String, character: char) {
    if is_unprintable(character) {
        clean.extend(character.escape_unicode());
    } else {
        clean.push(character);
    }
}

const MAX_SHOWN: usize = 300;
