//! Values that are made from files and made again when the content of the files changes.
//!
//! Owns the policy for all of them: content that cannot be used never replaces a value that can, and the
//! same content is tried, and its error returned, only once. The content is compared rather than
//! watched, because a mounted ConfigMap or Secret is updated by a swap of symlinks, after which a watch on
//! the file sees nothing.

use std::fmt::Display;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

/// A value in use, which is replaced when the content that it was made from changes.
#[derive(Debug)]
pub(crate) struct Reloadable<T> {
    current: ArcSwap<T>,
    last_read: Mutex<LastRead>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct LastRead {
    /// The hash of the content or the error of reading it; `None` before the first time. The content
    /// itself is not kept, because it may be a secret.
    content: Option<Result<u64, String>>,
    /// Why the content is not in use.
    fault: Option<String>,
}

/// Whether a reload or a replacement changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The content is the same as at the last reload.
    Same,
    /// The content is different and in use.
    Changed,
}

impl<T> Reloadable<T> {
    /// A value that was not made from files.
    pub(crate) fn new(value: T) -> Self {
        Self {
            current: ArcSwap::from_pointee(value),
            last_read: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// A value made from `content`. Fails when it cannot be made.
    pub(crate) fn from_content<C: Hash, E>(
        content: &C,
        parse: impl FnOnce(&C) -> Result<T, E>,
    ) -> Result<Self, E> {
        let this = Self::new(parse(content)?);
        this.last_read().content = Some(Ok(this.hasher.hash_one(content)));
        Ok(this)
    }

    /// Makes the value again if `content` differs from the last time. Fails once for content that could
    /// not be read or parsed; the previous value then stays in use.
    pub(crate) fn reload<C: Hash, E: Display>(
        &self,
        content: Result<C, E>,
        parse: impl FnOnce(&C) -> Result<T, E>,
    ) -> Result<Reloaded, E> {
        let read = content.as_ref().map(|content| self.hasher.hash_one(content)).map_err(ToString::to_string);
        let mut last_read = self.last_read();
        if last_read.content.as_ref() == Some(&read) {
            return Ok(Reloaded::Same);
        }
        let parsed = content.and_then(|content| parse(&content));
        *last_read = LastRead { content: Some(read), fault: parsed.as_ref().err().map(ToString::to_string) };
        self.current.store(Arc::new(parsed?));
        Ok(Reloaded::Changed)
    }

    /// The value in use.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Why the content read last is not in use. `None` when it is.
    pub(crate) fn fault(&self) -> Option<String> {
        self.last_read().fault.clone()
    }

    fn last_read(&self) -> MutexGuard<'_, LastRead> {
        self.last_read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: PartialEq> Reloadable<T> {
    /// Uses `value` from now on.
    pub(crate) fn replace(&self, value: T) -> Reloaded {
        if **self.current.load() == value {
            return Reloaded::Same;
        }
        self.current.store(Arc::new(value));
        Reloaded::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(content: &&str) -> Result<u8, String> {
        content.parse().map_err(|_| format!("`{content}` is not a number"))
    }

    #[test]
    fn the_previous_value_stays_in_use_until_the_content_can_be_used() {
        let value = Reloadable::from_content(&"1", parse).unwrap();
        let unreadable = || Err("no such file".to_owned());
        for (content, outcome, current, fault) in [
            (Ok("1"), Ok(Reloaded::Same), 1, None),
            (Ok("2"), Ok(Reloaded::Changed), 2, None),
            (Ok("x"), Err("`x` is not a number"), 2, Some("`x` is not a number")),
            (Ok("x"), Ok(Reloaded::Same), 2, Some("`x` is not a number")),
            (unreadable(), Err("no such file"), 2, Some("no such file")),
            (unreadable(), Ok(Reloaded::Same), 2, Some("no such file")),
            (Ok("2"), Ok(Reloaded::Changed), 2, None),
        ] {
            let case = format!("{content:?}");
            assert_eq!(value.reload(content, parse), outcome.map_err(str::to_owned), "{case}");
            assert_eq!((*value.current(), value.fault().as_deref()), (current, fault), "{case}");
        }
    }

    #[test]
    fn content_that_cannot_be_used_at_the_start_is_an_error() {
        assert_eq!(Reloadable::from_content(&"x", parse).unwrap_err(), "`x` is not a number");
    }
}
