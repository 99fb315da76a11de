//! The policy: what it says, which rule takes which function, and the decision.
//!
//! Trust: the encoded policy is covered by the bundle's manifest; what it is held against is the host's and the device's.
//! Pure functions.

pub mod cbor;
pub mod check;
pub mod decide;
pub mod inventory;
pub mod pattern;
pub mod pins;
pub mod refusal;
pub mod types;
