//! Tests over a real loopback listener.
