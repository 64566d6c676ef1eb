//! Text from outside, made safe for a message or a terminal.

/// A text for use in a message: without control characters, and cut to [`MAX_SHOWN`] bytes.
pub(crate) fn shown(text: &str) -> String {
    // Looking at every byte, whatever the one before is, takes less time than to stop at the first.
    if text.len() < MAX_SHOWN && text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
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

/// The whole text for a terminal: on one line, without control characters and characters that change the direction of
/// writing.
pub(crate) fn escaped(text: &str) -> String {
    escaped_except(text, &[])
}

/// The same but for some characters, which stay.
pub(crate) fn escaped_except(text: &str, kept: &[char]) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match kept.contains(&character) {
            true => clean.push(character),
            false => push_escaped(&mut clean, character),
        }
    }
    clean
}

/// Whether a terminal would interpret or hide the character.
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
