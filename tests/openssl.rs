//! Chains, keys and signatures made fresh by the OpenSSL command line in each run, so that our code is not only right
//! about our own generator.

#[path = "openssl/chains.rs"]
mod chains;
#[path = "openssl/defects.rs"]
mod defects;
#[path = "openssl/mutants.rs"]
mod mutants;
#[path = "openssl/pki.rs"]
mod pki;
#[cfg(feature = "rsa")]
#[path = "openssl/rsa.rs"]
mod rsa;
#[path = "openssl/signatures.rs"]
mod signatures;
