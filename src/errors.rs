//! Error messages and chains of causes.
//!
//! Rust appends "(os error 2)" to messages of the operating system. An error that includes the message of an I/O error
//! takes it from [`words`], without this number. A complete text is not searched for numbers, because it may quote
//! a file.

use std::error::Error;
use std::io;

/// The message of an error, without the number of the operating system.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let number = error.downcast_ref().and_then(io::Error::raw_os_error);
    match number.and_then(|number| text.strip_suffix(&format!(" (os error {number})"))) {
        Some(words) => words.to_owned(),
        None => text,
    }
}

/// An error, its cause, and so on. An I/O error may contain another that is not its `source`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

/// The message of the innermost cause, which is the useful one where libraries wrap errors.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_system_have_no_number() {
        assert_eq!(words(&io::Error::from_raw_os_error(2)), "No such file or directory");
        // Other messages are not changed.
        assert_eq!(words(&io::Error::other("a file (os error 2)")), "a file (os error 2)");
        assert_eq!(words(&io::Error::from(io::ErrorKind::NotFound)), "entity not found");
        assert_eq!(words(&std::fmt::Error), std::fmt::Error.to_string());
    }

    #[test]
    fn the_innermost_cause_is_found_inside_io_errors() {
        let refused = || io::Error::from_raw_os_error(111);
        assert_eq!(innermost(&refused()), "Connection refused");
        assert_eq!(innermost(&io::Error::other(refused())), "Connection refused");
        assert_eq!(chain(&io::Error::other(io::Error::other(refused()))).count(), 3);
    }
}
