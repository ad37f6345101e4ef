//! The token that a client sends.
//!
//! Never reads the environment or a file: the caller brings the token.

use greenroom_wire::secret::Secret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::ClientError;

/// The header of every call; empty without a token.
pub(crate) fn headers(token: Option<&Secret>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        let mut value = value.map_err(|_| ClientError::BadToken)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}
