//! The built-in certificates and keys (`tests/data/pki`, made by `scripts/test-pki`).

use crate::scenario::Asym;

/// Chain and key of one device.
type Unit = (&'static [u8], &'static [u8]);

macro_rules! units {
    ($curve:literal, $($number:literal)*) => {
        [$((
            include_bytes!(concat!("../../../data/pki/", $curve, "/chain-", $number, ".der")),
            include_bytes!(concat!("../../../data/pki/", $curve, "/unit-", $number, ".key")),
        )),*]
    };
    ($curve:literal) => {
        units!($curve, "00" "01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11" "12" "13" "14" "15")
    };
}

static P256: [Unit; 16] = units!("p256");
static P384: [Unit; 16] = units!("p384");
static RSA: Unit = (
    include_bytes!("../../../data/pki/rsa3072/chain.der"),
    include_bytes!("../../../data/pki/rsa3072/unit.key"),
);

/// Keys that no certificate names.
const FOREIGN_P256: &[u8] = include_bytes!("../../../data/pki/defects/foreign-p256.key");
const FOREIGN_P384: &[u8] = include_bytes!("../../../data/pki/defects/foreign.key");

/// Chain and key of a unit; there is one with RSA.
pub(super) fn of(asym: Asym, unit: usize) -> Option<Unit> {
    match asym {
        Asym::P256 => P256.get(unit).copied(),
        Asym::P384 => P384.get(unit).copied(),
        Asym::Rsa3072 => Some(RSA),
    }
}

/// A key of no device; none for RSA.
pub(super) fn foreign(asym: Asym) -> Option<&'static [u8]> {
    match asym {
        Asym::P256 => Some(FOREIGN_P256),
        Asym::P384 => Some(FOREIGN_P384),
        Asym::Rsa3072 => None,
    }
}
