//! The dashboard's files, embedded: `api/dashboard.rs` serves them, and they speak to the public API only.

/// One file of the dashboard.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub body: &'static [u8],
}

/// Every file of the dashboard.
pub fn assets() -> &'static [Asset] {
    &[]
}
