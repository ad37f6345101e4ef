//! Example gameservers.
