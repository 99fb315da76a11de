//! Builder of SPDM objects, made from the specification and not from the code that it tests: plain numbers, no constants of
//! the library.
#![allow(dead_code, reason = "each test uses a part of it")]

use sha2::Digest;

/// The negotiation.
#[derive(Clone, Debug)]
pub struct VcaSpec {
    pub version: u8,
    pub listed: Vec<u8>,
    pub flags: u32,
    pub offered_asym: u32,
    pub offered_hash: u32,
    pub offered_specification: u8,
    /// Extended signature and hash algorithms that are offered.
    pub offered_extended: (u8, u8),
    pub asym: u32,
    pub hash: u32,
    pub measurement_hash: u32,
    pub specification: u8,
    /// Algorithm structures of both messages: type, and number of extended algorithms.
    pub tables: Vec<(u8, u8)>,
}

/// P-384, SHA-384, SPDM 1.2.
pub fn vca() -> VcaSpec {
    VcaSpec {
        version: 0x12,
        listed: vec![0x10, 0x11, 0x12, 0x13],
        flags: 1 << 1 | 2 << 3 | 1 << 6 | 1 << 7 | 1 << 9,
        offered_asym: 0x90,
        offered_hash: 0x3,
        offered_specification: 1,
        offered_extended: (0, 0),
        asym: 0x80,
        hash: 2,
        measurement_hash: 4,
        specification: 1,
        tables: vec![(2, 0), (3, 0), (4, 0), (5, 0)],
    }
}

impl VcaSpec {
    pub fn messages(&self) -> [Vec<u8>; 6] {
        let v = self.version;
        let count = u8::try_from(self.listed.len()).unwrap();
        let mut version = vec![0x10, 0x04, 0, 0, 0, count];
        self.listed.iter().for_each(|listed| version.extend([0, *listed]));
        let capabilities = |code: u8, flags: u32| {
            let mut message = vec![v, code, 0, 0, 0, 20, 0, 0];
            message.extend(flags.to_le_bytes());
            message.extend(0x1200u32.to_le_bytes());
            message.extend(0x1200u32.to_le_bytes());
            message
        };
        let mut tables = Vec::new();
        for (kind, extended) in &self.tables {
            tables.extend([*kind, 2 << 4 | *extended, 0x10, 0]);
            tables.extend([0xEE; 4].repeat((*extended).into()));
        }
        let tables_count = u8::try_from(self.tables.len()).unwrap();

        let (asym, hash) = self.offered_extended;
        let mut offer = vec![v, 0xE3, tables_count, 0, 0, 0, self.offered_specification, 2];
        offer.extend(self.offered_asym.to_le_bytes());
        offer.extend(self.offered_hash.to_le_bytes());
        offer.extend([0; 12]);
        offer.extend([asym, hash, 0, 0]);
        offer.extend([0xEE; 4].repeat(usize::from(asym) + usize::from(hash)));
        offer.extend(&tables);

        let mut chosen = vec![v, 0x63, tables_count, 0, 0, 0, self.specification, 2];
        chosen.extend(self.measurement_hash.to_le_bytes());
        chosen.extend(self.asym.to_le_bytes());
        chosen.extend(self.hash.to_le_bytes());
        chosen.extend([0; 16]);
        chosen.extend(&tables);
        for message in [&mut offer, &mut chosen] {
            let len = u16::try_from(message.len()).unwrap();
            message.splice(4..6, len.to_le_bytes());
        }
        [
            vec![0x10, 0x84, 0, 0],
            version,
            capabilities(0xE1, 0x82C6),
            capabilities(0x61, self.flags),
            offer,
            chosen,
        ]
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.messages().concat()
    }

    pub fn hash(&self, data: &[u8]) -> Vec<u8> {
        match self.hash {
            1 => sha2::Sha256::digest(data).to_vec(),
            2 => sha2::Sha384::digest(data).to_vec(),
            _ => sha2::Sha512::digest(data).to_vec(),
        }
    }
}

/// One block; `kind` with bit 7 for raw.
#[derive(Clone, Debug)]
pub struct BlockSpec {
    pub index: u8,
    pub kind: u8,
    pub value: Vec<u8>,
}

/// The exchange.
#[derive(Clone, Debug)]
pub struct ExchangeSpec {
    pub version: u8,
    pub attributes: u8,
    pub nonce: [u8; 32],
    pub slot: u8,
    pub context: [u8; 8],
    pub changed: u8,
    pub blocks: Vec<BlockSpec>,
    pub responder_nonce: [u8; 32],
    pub opaque: Vec<u8>,
}

/// Signed, three blocks; measurement hash SHA-384.
pub fn exchange() -> ExchangeSpec {
    ExchangeSpec {
        version: 0x12,
        attributes: 1,
        nonce: [0xA5; 32],
        slot: 1,
        context: *b"context!",
        changed: 2,
        blocks: vec![
            BlockSpec { index: 1, kind: 1, value: vec![0x11; 48] },
            BlockSpec { index: 2, kind: 0x87, value: 7u64.to_le_bytes().to_vec() },
            BlockSpec {
                index: 0xFE,
                kind: 0x85,
                value: [0x3Fu32, 4, 0x1F, 0].map(u32::to_le_bytes).concat(),
            },
        ],
        responder_nonce: [0x5A; 32],
        opaque: b"opaque".to_vec(),
    }
}

impl ExchangeSpec {
    pub fn request(&self) -> Vec<u8> {
        let mut message = vec![self.version, 0xE0, self.attributes, 0xFF];
        if self.attributes & 1 != 0 {
            message.extend(self.nonce);
            message.push(self.slot);
        }
        if self.version == 0x13 {
            message.extend(self.context);
        }
        message
    }

    /// The response without its signature.
    pub fn response(&self) -> Vec<u8> {
        let mut record = Vec::new();
        for block in &self.blocks {
            let len = u16::try_from(block.value.len()).unwrap();
            record.extend([block.index, 1]);
            record.extend((len + 3).to_le_bytes());
            record.push(block.kind);
            record.extend(len.to_le_bytes());
            record.extend(&block.value);
        }
        let slot = if self.attributes & 1 != 0 { self.slot } else { 0 };
        let mut message = vec![self.version, 0x60, 0, self.changed << 4 | slot];
        message.push(u8::try_from(self.blocks.len()).unwrap());
        message.extend(&u32::try_from(record.len()).unwrap().to_le_bytes()[..3]);
        message.extend(record);
        message.extend(self.responder_nonce);
        message.extend(u16::try_from(self.opaque.len()).unwrap().to_le_bytes());
        message.extend(&self.opaque);
        if self.version == 0x13 {
            message.extend(self.context);
        }
        message
    }

    pub fn bytes(&self, signature: &[u8]) -> Vec<u8> {
        [self.request(), self.response(), signature.to_vec()].concat()
    }

    /// What the device signs.
    pub fn to_be_signed(&self, vca: &VcaSpec) -> Vec<u8> {
        let mut message = Vec::new();
        for _ in 0..4 {
            message.extend(b"dmtf-spdm-v1.");
            message.push(b'0' + (self.version & 0xF));
            message.extend(b".*");
        }
        message.extend([0; 6]);
        message.extend(b"responder-measurements signing");
        message.extend(vca.hash(&[vca.bytes(), self.bytes(&[])].concat()));
        message
    }

    /// The whole object, signed with the private scalar `key`: a small number, as long as the curve of `vca` wants it.
    pub fn signed(&self, vca: &VcaSpec, key: u8) -> Vec<u8> {
        use p256::ecdsa::signature::hazmat::PrehashSigner;
        let hash = vca.hash(&self.to_be_signed(vca));
        let mut scalar = [0; 48];
        scalar[47] = key;
        let signature = if vca.asym == 0x10 {
            let key = p256::ecdsa::SigningKey::from_slice(&scalar[16..]).unwrap();
            let signature: p256::ecdsa::Signature = key.sign_prehash(&hash).unwrap();
            signature.to_bytes().to_vec()
        } else {
            let key = p384::ecdsa::SigningKey::from_slice(&scalar).unwrap();
            let signature: p384::ecdsa::Signature = key.sign_prehash(&hash).unwrap();
            signature.to_bytes().to_vec()
        };
        self.bytes(&signature)
    }
}

/// SubjectPublicKeyInfo of the private scalar `key` on the curve of `vca`.
pub fn spki(vca: &VcaSpec, key: u8) -> Vec<u8> {
    let mut scalar = [0; 48];
    scalar[47] = key;
    let (head, point): (&[u8], Vec<u8>) = if vca.asym == 0x10 {
        let key = p256::ecdsa::SigningKey::from_slice(&scalar[16..]).unwrap();
        (
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
            key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        )
    } else {
        let key = p384::ecdsa::SigningKey::from_slice(&scalar).unwrap();
        (
            b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00",
            key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
        )
    };
    [head, &point].concat()
}
