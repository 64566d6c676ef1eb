//! Lists, maps and bytes from outside, read with a limit.
//!
//! A few bytes of JSON or of a compressed layer can stand for many in memory, so each item is passed to
//! the caller as it is read, to be kept, left out or refused. `null`, which Go writes for an empty list or
//! map, is read as empty.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads a list of at most `LIMIT` items. A longer one is an error.
pub(crate) fn list<'de, const LIMIT: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let mut items = Vec::new();
    each_item(deserializer, |item| {
        items.push(item);
        within(items.len(), LIMIT, "entries")
    })?;
    Ok(items)
}

/// Reads a map of strings with at most `LIMIT` entries. A larger one is an error.
pub(crate) fn map<'de, const LIMIT: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    strings(deserializer, LIMIT, "entries")
}

/// Reads a map of strings with at most `limit` entries, which an error calls by `noun`. A value that is
/// `null` is the empty string.
pub(crate) fn strings<'de, D: Deserializer<'de>>(
    deserializer: D,
    limit: usize,
    noun: &str,
) -> Result<BTreeMap<String, String>, D::Error> {
    let mut strings = BTreeMap::new();
    each_entry(deserializer, |key: String, value: Option<String>| {
        strings.insert(key, value.unwrap_or_default());
        within(strings.len(), limit, noun)
    })?;
    Ok(strings)
}

/// Reads a list, and passes each item to `take`, whose error ends the reading.
pub(crate) fn each_item<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    mut take: impl FnMut(T) -> Result<(), String>,
) -> Result<(), D::Error> {
    deserializer.deserialize_any(ListVisitor(&mut take))
}

/// Reads a map, and passes each entry to `take`, whose error ends the reading.
pub(crate) fn each_entry<'de, D: Deserializer<'de>, K: Deserialize<'de>, V: Deserialize<'de>>(
    deserializer: D,
    mut take: impl FnMut(K, V) -> Result<(), String>,
) -> Result<(), D::Error> {
    deserializer.deserialize_any(MapVisitor(&mut take))
}

fn within(length: usize, limit: usize, noun: &str) -> Result<(), String> {
    if length > limit { Err(format!("more than {limit} {noun}")) } else { Ok(()) }
}

struct ListVisitor<'a, T>(&'a mut dyn FnMut(T) -> Result<(), String>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<'_, T> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(item) = sequence.next_element()? {
            (self.0)(item).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

struct MapVisitor<'a, K, V>(&'a mut dyn FnMut(K, V) -> Result<(), String>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for MapVisitor<'_, K, V> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry()? {
            (self.0)(key, value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A reader that fails beyond a number of bytes.
pub(crate) struct ByteLimit<R> {
    inner: R,
    left: u64,
    message: String,
}

impl<R> ByteLimit<R> {
    /// Reads at most `limit` bytes of `inner`. The error begins with `what`, such as "the file has".
    pub(crate) fn new(inner: R, limit: u64, what: &str) -> Self {
        Self { inner, left: limit, message: format!("{what} more than {limit} bytes") }
    }
}

impl<R: Read> Read for ByteLimit<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = self.inner.read(buffer)?;
        let left = self.left.checked_sub(amount as u64);
        self.left = left.ok_or_else(|| io::Error::other(self.message.as_str()))?;
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_or_map_that_is_too_long_is_an_error_and_null_is_empty() {
        let list = |text| super::list::<2, u8, _>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(list("[1, 2]").unwrap(), [1, 2]);
        assert!(list("null").unwrap().is_empty());
        let error = list("[1, 2, 3]").unwrap_err().to_string();
        assert!(error.starts_with("more than 2 entries"), "{error}");
        assert!(list("{}").unwrap_err().to_string().starts_with("invalid type: map, expected a list"));
        let map = |text| super::map::<1, _>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(map(r#"{"a": null}"#).unwrap(), BTreeMap::from([("a".to_owned(), String::new())]));
        assert_eq!(map("null").unwrap(), BTreeMap::new());
        let error = map(r#"{"a": "", "b": ""}"#).unwrap_err().to_string();
        assert!(error.starts_with("more than 1 entries"), "{error}");
        assert!(map("[]").unwrap_err().to_string().starts_with("invalid type: sequence, expected a map"));
    }

    #[test]
    fn a_reader_fails_at_the_first_byte_beyond_its_limit() {
        let read = |length: usize| {
            let mut content = Vec::new();
            ByteLimit::new(&*vec![0; length], 3, "it has")
                .read_to_end(&mut content)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(3), Ok(3));
        assert_eq!(read(4), Err("it has more than 3 bytes".to_owned()));
    }
}
