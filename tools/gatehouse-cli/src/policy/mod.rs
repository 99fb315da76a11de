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

/// What a file may be for it to be read as a policy, whatever comes of that.
const POLICY_LIKE: [&str; 3] = ["unknown data", "a Gatehouse policy", "a policy in TOML"];

/// Reads a policy file: the encoded form, else TOML if it is text.
///
/// # Errors
/// Whatever is wrong, with the file's name; a file that is something else is told as that.
pub fn load(path: &Path) -> Result<Policy, Box<dyn std::error::Error>> {
    let name = path.display();
    let bytes = crate::files::read(path)?;
    let decoded = gatehouse::policy::cbor::decode(&bytes);
    let what = crate::filetype::describe(&bytes);
    let result = match (decoded, std::str::from_utf8(&bytes)) {
        (Ok(policy), _) => Ok(policy),
        _ if !POLICY_LIKE.contains(&what) => Err(format!("this is {what}, expected a policy")),
        (Err(_), Ok(text)) => {
            let folder = path.parent().unwrap_or(Path::new(""));
            toml::parse(text, folder).map_err(|error| error.to_string())
        }
        (Err(error), Err(_)) => Err(error.to_string()),
    };
    result.map_err(|error| format!("{name}: {error}").into())
}
