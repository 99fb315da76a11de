//! Reference values of a verifier, in JSON: docs/verify.md.
//!
//! Trust: the verifier's own file.

use crate::eventlog::{Judgement, Mode};
use crate::files::HexBytes;
use crate::token::Key;
use gatehouse::digest::Digest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a file holds no reference values.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Not JSON, or no object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// A field that is not known.
    #[error("field {0:?} is not known")]
    Unknown(String),
    /// A field with something else than it holds.
    #[error("field {field:?}: {wanted}")]
    Field {
        /// Name.
        field: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

/// What a realm has to be; an empty list or `None` demands nothing, but for `rim`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// Hash algorithm of the realm: sha256, sha384 or sha512.
    pub hash: Option<String>,
    /// Realm initial measurements.
    pub rim: Vec<Vec<u8>>,
    /// Realm personalization values.
    pub rpv: Vec<Vec<u8>>,
    /// REM 1 to 3.
    pub rems: [Vec<Vec<u8>>; 3],
    /// Digests of encoded policies.
    pub policy: Vec<Digest>,
    /// Manifests.
    pub bundle: Vec<Digest>,
    /// Digests of the bundle's parts, by role.
    pub parts: BTreeMap<String, Vec<Digest>>,
    /// Least svn of the policy.
    pub min_policy_svn: Option<u64>,
    /// Least svn of the bundle.
    pub min_bundle_svn: Option<u64>,
    /// Keys of platforms.
    pub platform_keys: Vec<Key>,
    /// Verdicts that no device may have.
    pub forbid_verdicts: Vec<Judgement>,
    /// Modes that no device may have.
    pub forbid_modes: Vec<Mode>,
}

/// Reads every item of an array of texts.
fn list<T>(
    field: &str,
    value: &Value,
    wanted: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, ReferenceError> {
    let error = || ReferenceError::Field { field: field.to_owned(), wanted };
    let items = value.as_array().ok_or_else(error)?;
    items.iter().map(|item| item.as_str().and_then(&read).ok_or_else(error)).collect()
}

fn measurement(text: &str) -> Option<Vec<u8>> {
    text.parse().ok().map(|HexBytes(bytes)| bytes).filter(|bytes| matches!(bytes.len(), 32 | 48 | 64))
}

const MEASUREMENTS: &str = "an array of measurements in hexadecimal digits, 32, 48 or 64 bytes each";
const DIGESTS: &str = "an array of digests like \"sha256:9f86..\"";

impl Reference {
    /// Reads reference values.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ReferenceError> {
        let json = serde_json::from_slice::<Map<String, Value>>(bytes);
        let json = json.map_err(|error| ReferenceError::Json(error.to_string()))?;
        let mut reference = Self::default();
        for (field, value) in &json {
            reference.field(field, value)?;
        }
        if reference.rim.is_empty() {
            let wanted = "at least one measurement; without it nothing says what was started";
            return Err(ReferenceError::Field { field: "rim".into(), wanted });
        }
        Ok(reference)
    }

    fn field(&mut self, field: &str, value: &Value) -> Result<(), ReferenceError> {
        let error = |wanted| ReferenceError::Field { field: field.to_owned(), wanted };
        let measurements = || list(field, value, MEASUREMENTS, measurement);
        let digests = |value| list(field, value, DIGESTS, |text| text.parse().ok());
        let number = || value.as_u64().ok_or_else(|| error("a number"));
        match field {
            "hash" => {
                let known = value.as_str().filter(|hash| matches!(*hash, "sha256" | "sha384" | "sha512"));
                self.hash = Some(known.ok_or_else(|| error("sha256, sha384 or sha512"))?.to_owned());
            }
            "rim" => self.rim = measurements()?,
            "rpv" => self.rpv = measurements()?,
            "rem1" => self.rems[0] = measurements()?,
            "rem2" => self.rems[1] = measurements()?,
            "rem3" => self.rems[2] = measurements()?,
            "policy" => self.policy = digests(value)?,
            "bundle" => self.bundle = digests(value)?,
            "parts" => {
                let parts = value.as_object().ok_or_else(|| error("an object: role and digests"))?;
                for (role, value) in parts {
                    self.parts.insert(role.clone(), digests(value)?);
                }
            }
            "min-policy-svn" => self.min_policy_svn = Some(number()?),
            "min-bundle-svn" => self.min_bundle_svn = Some(number()?),
            "platform-keys" => {
                let wanted = "an array of public keys in PEM, on P-256 or P-384";
                self.platform_keys = list(field, value, wanted, |text| Key::from_pem(text).ok())?;
            }
            "forbid-verdicts" => {
                let wanted = "an array of accepted, refused, missing and extra";
                self.forbid_verdicts = list(field, value, wanted, Judgement::from_word)?;
            }
            "forbid-modes" => {
                let wanted = "an array of run, pin, shared, hide and none";
                self.forbid_modes = list(field, value, wanted, Mode::from_word)?;
            }
            _ => return Err(ReferenceError::Unknown(field.to_owned())),
        }
        Ok(())
    }
}
