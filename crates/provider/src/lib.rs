//! Placeholder line; the owner of this crate replaces it.
