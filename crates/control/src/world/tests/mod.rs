//! Tests of the world under virtual time.
