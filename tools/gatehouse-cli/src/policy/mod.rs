//! Policies for people: the TOML form, what it means in sentences, and drafts of it. docs/policy.md is the reader's side.
pub mod advice;
pub mod capture;
pub mod draft;
pub mod evidence;
pub mod explain;
pub mod refused;
pub mod toml;
use gatehouse::policy::types::Policy;
use std::path::Path;

/// Reads a policy file: TOML if it is text with a `version` line, else the encoded form.
///
/// # Errors
/// Whatever is wrong, with the file's name.
pub fn load(path: &Path) -> Result<Policy, Box<dyn std::error::Error>> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("version") => {
            let folder = path.parent().unwrap_or(Path::new(""));
            toml::parse(text, folder).map_err(|error| format!("{name}: {error}").into())
        }
        _ => gatehouse::policy::cbor::decode(&bytes).map_err(|error| format!("{name}: {error}").into()),
    }
}
