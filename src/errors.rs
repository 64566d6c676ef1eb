//! Errors in words for people: what the system says, and what caused what.
//!
//! Owns that no number of the system's gets into a sentence: Rust appends one to what the system says,
//! and the words say it already. Errors that print the error below them have to print it by
//! [`words`]; a text that is finished is not searched for numbers, as it may quote a file.

use std::error::Error;
use std::io;

/// An error in its own words, without what caused it.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let number = error.downcast_ref().and_then(io::Error::raw_os_error);
    match number.and_then(|number| text.strip_suffix(&format!(" (os error {number})"))) {
        Some(words) => words.to_owned(),
        None => text,
    }
}

/// An error, what caused it, and so on. I/O errors may hold others that they do not call their source.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

/// The last cause of an error, in its words: the one that says something where libraries wrap errors.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_told_without_its_number() {
        assert_eq!(words(&io::Error::from_raw_os_error(2)), "No such file or directory");
        // The words of others are theirs, whatever they look like.
        assert_eq!(words(&io::Error::other("a file (os error 2)")), "a file (os error 2)");
        assert_eq!(words(&io::Error::from(io::ErrorKind::NotFound)), "entity not found");
        assert_eq!(words(&std::fmt::Error), std::fmt::Error.to_string());
    }

    #[test]
    fn the_innermost_cause_is_found_in_errors_of_input_and_output_too() {
        let refused = || io::Error::from_raw_os_error(111);
        assert_eq!(innermost(&refused()), "Connection refused");
        assert_eq!(innermost(&io::Error::other(refused())), "Connection refused");
        assert_eq!(chain(&io::Error::other(io::Error::other(refused()))).count(), 3);
    }
}
