//! Lines on the standard output.
//!
//! Never fails: a reader that went away (`| head`) is no fault of the command, and `dev` must clean up even then.

use std::io::Write as _;

/// One line, or several.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _reader_gone = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
}

/// Text as it is.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _reader_gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
