//! A token as its reader sees it: read granule by granule, taken apart by `minicbor`, verified. Shares nothing with the
//! model's encoder.

use super::*;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use p384::ecdsa::signature::Verifier;
use p384::ecdsa::{Signature, VerifyingKey};
use rmm_model::digest::HashAlgorithm;
use rmm_model::scenario::RealmSpec;

/// Granules for the token.
pub const TOKEN: u64 = RAM + 0x8000;

/// One item of CBOR.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(i64, Item)>),
    Tag(u64, Box<Item>),
    Bool(bool),
}

impl Item {
    /// Decodes one item, which must be all of `bytes` and deterministically encoded.
    pub fn decode(bytes: &[u8]) -> Item {
        let mut decoder = Decoder::new(bytes);
        let item = Item::next(&mut decoder);
        assert_eq!(decoder.position(), bytes.len(), "bytes behind the item");
        let mut again = Encoder::new(Vec::new());
        item.encode(&mut again);
        assert_eq!(again.into_writer(), bytes, "not the shortest form");
        item
    }

    fn next(d: &mut Decoder<'_>) -> Item {
        match d.datatype().unwrap() {
            Type::Bytes => Item::Bytes(d.bytes().unwrap().to_vec()),
            Type::String => Item::Text(d.str().unwrap().into()),
            Type::Bool => Item::Bool(d.bool().unwrap()),
            Type::Array => {
                let len = d.array().unwrap().unwrap();
                Item::Array((0..len).map(|_| Item::next(d)).collect())
            }
            Type::Map => {
                let len = d.map().unwrap().unwrap();
                let (mut items, mut last) = (Vec::new(), Vec::new());
                for _ in 0..len {
                    let at = d.position();
                    let number = d.i64().unwrap();
                    let key = d.input()[at..d.position()].to_vec();
                    assert!(key > last, "key {number} out of order");
                    last = key;
                    items.push((number, Item::next(d)));
                }
                Item::Map(items)
            }
            Type::Tag => Item::Tag(d.tag().unwrap().as_u64(), Box::new(Item::next(d))),
            _ => Item::Int(d.i64().unwrap()),
        }
    }

    fn encode(&self, e: &mut Encoder<Vec<u8>>) {
        match self {
            Item::Int(number) => drop(e.i64(*number).unwrap()),
            Item::Bytes(bytes) => drop(e.bytes(bytes).unwrap()),
            Item::Text(text) => drop(e.str(text).unwrap()),
            Item::Bool(value) => drop(e.bool(*value).unwrap()),
            Item::Array(items) => {
                e.array(items.len() as u64).unwrap();
                items.iter().for_each(|item| item.encode(e));
            }
            Item::Map(items) => {
                e.map(items.len() as u64).unwrap();
                for (key, item) in items {
                    e.i64(*key).unwrap();
                    item.encode(e);
                }
            }
            Item::Tag(number, item) => {
                e.tag(minicbor::data::Tag::new(*number)).unwrap();
                item.encode(e);
            }
        }
    }

    /// The value of a map's key.
    pub fn get(&self, key: i64) -> Option<&Item> {
        let Item::Map(items) = self else { panic!("no map: {self:?}") };
        items.iter().find(|item| item.0 == key).map(|item| &item.1)
    }

    pub fn at(&self, key: i64) -> &Item {
        self.get(key).unwrap_or_else(|| panic!("no key {key}"))
    }

    pub fn keys(&self) -> Vec<i64> {
        let Item::Map(items) = self else { panic!("no map: {self:?}") };
        let mut keys: Vec<i64> = items.iter().map(|item| item.0).collect();
        keys.sort_unstable();
        keys
    }

    pub fn bytes(&self) -> &[u8] {
        let Item::Bytes(bytes) = self else { panic!("no bytes: {self:?}") };
        bytes
    }

    pub fn text(&self) -> &str {
        let Item::Text(text) = self else { panic!("no text: {self:?}") };
        text
    }

    pub fn items(&self) -> &[Item] {
        let Item::Array(items) = self else { panic!("no array: {self:?}") };
        items
    }

    pub fn untag(&self, expected: u64) -> &Item {
        let Item::Tag(number, item) = self else { panic!("no tag: {self:?}") };
        assert_eq!(*number, expected);
        item
    }
}

/// A COSE_Sign1 with ES384.
pub struct Signed {
    pub claims: Item,
    payload: Vec<u8>,
    protected: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    pub fn decode(bytes: &[u8]) -> Signed {
        let item = Item::decode(bytes);
        let [protected, unprotected, payload, signature] = item.untag(18).items() else { panic!("{item:?}") };
        assert_eq!(Item::decode(protected.bytes()), Item::Map(vec![(1, Item::Int(-35))]));
        assert_eq!(unprotected, &Item::Map(vec![]));
        Signed {
            claims: Item::decode(payload.bytes()),
            payload: payload.bytes().to_vec(),
            protected: protected.bytes().to_vec(),
            signature: signature.bytes().to_vec(),
        }
    }

    /// Whether the signature is that of an uncompressed point.
    pub fn is_signed_by(&self, point: &[u8]) -> bool {
        let mut message = Encoder::new(Vec::new());
        message.array(4).unwrap().str("Signature1").unwrap();
        message.bytes(&self.protected).unwrap().bytes(&[]).unwrap().bytes(&self.payload).unwrap();
        let key = VerifyingKey::from_sec1_bytes(point).unwrap();
        key.verify(&message.into_writer(), &Signature::from_slice(&self.signature).unwrap()).is_ok()
    }
}

/// A whole token.
pub struct Token {
    pub platform: Signed,
    pub realm: Signed,
    /// Bytes of the device token.
    pub devices: Option<Vec<u8>>,
}

impl Token {
    /// Takes the collection with tag 907 apart.
    pub fn decode(bytes: &[u8]) -> Token {
        let item = Item::decode(bytes);
        let collection = item.untag(907);
        let part = |key, format| {
            let [content, bytes] = collection.get(key)?.items() else { panic!("{key}") };
            assert_eq!(content, &Item::Int(format));
            Some(bytes.bytes().to_vec())
        };
        Token {
            platform: Signed::decode(&part(44234, 263).unwrap()),
            realm: Signed::decode(&part(44241, 263).unwrap()),
            devices: part(44258, 601),
        }
    }

    /// Takes the map with tag 399 apart.
    pub fn decode_old(bytes: &[u8]) -> Token {
        let item = Item::decode(bytes);
        let collection = item.untag(399);
        assert_eq!(collection.keys(), [44234, 44241]);
        let part = |key| Signed::decode(collection.at(key).bytes());
        Token { platform: part(44234), realm: part(44241), devices: None }
    }

    /// The uncompressed point of claim 44237.
    pub fn realm_key(&self) -> Vec<u8> {
        let key = Item::decode(self.realm.claims.at(44237).bytes());
        assert_eq!(key.keys(), [-3, -2, -1, 1, 3]);
        assert_eq!((key.at(1), key.at(-1), key.at(3)), (&Item::Int(2), &Item::Int(2), &Item::Int(-35)));
        [&[4], key.at(-2).bytes(), key.at(-3).bytes()].concat()
    }

    /// Whether the platform token names the realm token's key.
    pub fn is_bound(&self) -> bool {
        let binding = HashAlgorithm::Sha256.digest(&[self.realm.claims.at(44237).bytes()]);
        self.platform.claims.at(10).bytes() == binding
    }
}

/// The challenge of every test.
pub fn challenge() -> Vec<u8> {
    (1..=64).collect()
}

pub fn realm(change: impl FnOnce(&mut RealmSpec)) -> Scenario {
    let mut scenario = plain();
    change(&mut scenario.realm);
    scenario
}

/// Begins a token for [`challenge`]; the most bytes that it may have.
pub fn init(rig: &mut Rig) -> u64 {
    let challenge = challenge();
    let words: Vec<u64> =
        challenge.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    let regs = rig.call(RSI_ATTESTATION_TOKEN_INIT, &words);
    assert_eq!(regs[0], RSI_SUCCESS);
    regs[1]
}

/// Reads the token for [`challenge`] as `attestation.md` 5 says, so many bytes at a time at most.
pub fn read(rig: &mut Rig, most: u64) -> Vec<u8> {
    let room = init(rig);
    let mut bytes = Vec::new();
    for granule in 0..room.div_ceil(PAGE) {
        let (ipa, mut offset) = (TOKEN + granule * PAGE, 0);
        while offset < PAGE {
            let regs = rig.call(RSI_ATTESTATION_TOKEN_CONTINUE, &[ipa, offset, most.min(PAGE - offset)]);
            let mut part = vec![0; regs[1] as usize];
            rig.m.read(ipa + offset, &mut part);
            bytes.extend(part);
            offset += regs[1];
            match regs[0] {
                RSI_SUCCESS => return bytes,
                status => assert_eq!(status, RSI_INCOMPLETE),
            }
        }
    }
    panic!("the token does not end");
}

/// The token of a realm.
pub fn token(change: impl FnOnce(&mut RealmSpec)) -> Token {
    Token::decode(&read(&mut Rig::new(&realm(change)), PAGE))
}
