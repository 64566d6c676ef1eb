//! What a run of the suites prints, and the credentials that must not be in it.
//!
//! With `LAYERPIN_PRINTED=FOLDER` everything that is traced in a process with a server of this crate is
//! kept there, and beside it every credential that a server demanded, gave out or was shown. Whoever has
//! run the suites can look for the one in the other. Without it nothing is kept.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Keeps what a program printed, as `FOLDER/NAME.log`.
///
/// # Panics
///
/// When the folder cannot be written to.
pub fn keep_printed(name: &str, text: &[u8]) {
    if let Some(mut file) = open(&format!("{name}.log")) {
        // In one call, so that lines of several threads do not mingle.
        file.write_all(&[text, b"\n"].concat()).expect("a folder that can be written to");
    }
}

/// A file, of a name that nobody else has, for a program to print to. `None` where nothing is kept.
pub fn printed_file(name: &str) -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Some(PathBuf::from(std::env::var_os(FOLDER)?).join(format!("{name}-{process}-{count}.log")))
}

/// Keeps the password of an account, and what it looks like on its way.
///
/// # Panics
///
/// When it is so short that it may stand in a text by chance.
pub(crate) fn keep_account(user: &str, password: &str) {
    assert!(password.len() >= 8, "the password of {user} is too short to be found in what is printed");
    keep_secret(password);
    keep_secret(&STANDARD.encode(format!("{user}:{password}")));
}

/// Keeps a credential that was given out or shown, unless it is so short that it may stand anywhere.
///
/// # Panics
///
/// When the folder cannot be written to.
pub fn keep_secret(secret: &str) {
    if secret.len() >= 8
        && let Some(mut file) = open(SECRETS)
    {
        file.write_all(format!("{secret}\n").as_bytes()).expect("a folder that can be written to");
    }
}

/// Keeps what this process traces from now on, unless it does something else with it.
pub(crate) fn keep_traces() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(file) = open(&format!("traces-{}.log", std::process::id())) else { return };
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(file);
        // Whoever has a subscriber of their own looks at the traces themselves.
        let _ = subscriber.try_init();
    });
}

fn open(name: &str) -> Option<File> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let file = OpenOptions::new().create(true).append(true).open(folder.join(name));
    Some(file.expect("a folder that can be written to"))
}

const FOLDER: &str = "LAYERPIN_PRINTED";
const SECRETS: &str = "secrets.txt";
