//! The keys of version 3, written from section 20 of SPEC.txt without the core's code.

use std::collections::HashMap;
use std::hash::Hasher as _;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use foldhash::fast::FixedState;
use hkdf::{Hkdf, HkdfExtract};
use k256::{PublicKey, SecretKey};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;
use voltlane_core::keys::KeyPair;

pub(super) type Key = [u8; 32];

const TAG: usize = 16;

fn extract(salt: &[u8], parts: &[&[u8]]) -> Key {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    parts.iter().for_each(|part| extract.input_ikm(part));
    extract.finalize().0.into()
}

pub(super) fn expand<const N: usize>(key: &Key, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::from_prk(key)
        .expect("a key is as long as the hash")
        .expand_multi_info(info, &mut out)
        .expect("HKDF gives more");
    out
}

pub(super) fn sha256(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// Seals `plain`. Returns ciphertext and tag.
pub(super) fn seal(key: &Key, nonce: &[u8; 24], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = plain.to_vec();
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&XNonce::from(*nonce), associated, out.as_mut_slice().into())
        .expect("it is short");
    out.extend_from_slice(&tag);
    out
}

/// Opens ciphertext and tag.
pub(super) fn open(
    key: &Key,
    nonce: &[u8; 24],
    associated: &[u8],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG>()?;
    let mut plain = ciphertext.to_vec();
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            associated,
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .ok()?;
    Some(plain)
}

/// The secrets of an edge. (SPEC 20.2)
pub(super) struct Edge {
    pub(super) hint: [u8; 4],
    master: Key,
    handles: [u8; 16],
}

impl Edge {
    pub(super) fn new(pair: &KeyPair) -> Edge {
        let master = extract(b"voltlane 3 master", &[pair.to_bytes().as_slice()]);
        let hint = sha256(&[pair.public().as_bytes()]);
        Edge {
            hint: *hint.first_chunk().expect("a hash is longer"),
            handles: expand(&master, &[b"handle"]),
            master,
        }
    }

    pub(super) fn claim_key(&self, id: u64) -> Key {
        expand(&self.master, &[b"claim", &id.to_le_bytes()])
    }

    fn mask(&self, random: &[u8]) -> u64 {
        let mut hash = SipHasher24::new_with_key(&self.handles);
        hash.write(random);
        hash.finish()
    }

    /// Returns the id in a handle.
    pub(super) fn id_of(&self, handle: &[u8; 16]) -> u64 {
        let (random, masked) = handle.split_at(8);
        u64::from_le_bytes(masked.try_into().expect("eight bytes")) ^ self.mask(random)
    }

    /// Returns a handle of an id.
    pub(super) fn handle(&self, id: u64, random: [u8; 8]) -> [u8; 16] {
        let mut handle = [0; 16];
        handle[..8].copy_from_slice(&random);
        handle[8..].copy_from_slice(&(id ^ self.mask(&random)).to_le_bytes());
        handle
    }
}

/// The keys of a join. (SPEC 20.3)
pub(super) struct Join {
    pub(super) th: Key,
    pub(super) hs: Key,
    pub(super) up: Key,
    pub(super) down: Key,
    pub(super) rs1: Key,
}

impl Join {
    /// Derives them as the client does, whose private key follows from what it was given for this connection.
    pub(super) fn new(random: [u8; 32], hello: &[u8], edge: &[u8], own: &[u8]) -> Option<Join> {
        let pair = KeyPair::generate(&mut ChaCha20Rng::from_seed(random));
        let private = SecretKey::from_slice(pair.to_bytes().as_slice()).ok()?;
        let agree = |point: &[u8]| {
            let point = PublicKey::from_sec1_bytes(point).ok()?;
            let shared: [u8; 32] = (*private.diffie_hellman(&point).raw_secret_bytes()).into();
            Some(shared)
        };
        let (first, second) = (agree(edge)?, agree(own)?);
        let th = sha256(&[b"voltlane 3 join", hello, edge, own]);
        let salt = b"voltlane 3 k256 xchacha20poly1305 sha256";
        let prk = extract(salt, &[&first, &second]);
        let key = |label: &[u8]| expand(&prk, &[label, &th]);
        Some(Join {
            th,
            hs: key(b"hs"),
            up: key(b"up"),
            down: key(b"down"),
            rs1: key(b"rs1"),
        })
    }
}

/// What both ends keep of a session. (SPEC 20.4)
#[derive(Clone)]
pub(super) struct Chain {
    pub(super) claim_key: Key,
    /// The resume secret of counter 1, 2 and so on.
    links: Vec<Key>,
}

impl Chain {
    pub(super) fn new(claim_key: Key, rs1: Key) -> Chain {
        Chain {
            claim_key,
            links: vec![rs1],
        }
    }

    /// Returns the resume secret of a counter.
    pub(super) fn link(&mut self, counter: u64) -> Key {
        while (self.links.len() as u64) < counter {
            let last = self.links[self.links.len() - 1];
            self.links.push(expand(&last, &[b"next"]));
        }
        self.links[counter as usize - 1]
    }
}

/// One direction of one connection. (SPEC 20.5)
pub(super) struct Lane {
    key: Key,
    prefix: [u8; 16],
    records: u64,
}

impl Lane {
    pub(super) fn new(secret: &Key) -> Lane {
        let material: [u8; 48] = expand(secret, &[b"record"]);
        Lane {
            key: *material.first_chunk().expect("the key"),
            prefix: *material.last_chunk().expect("the prefix"),
            records: 0,
        }
    }

    fn next_nonce(&mut self) -> [u8; 24] {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&self.prefix);
        nonce[16..].copy_from_slice(&self.records.to_le_bytes());
        self.records += 1;
        nonce
    }

    pub(super) fn seal(&mut self, number: u64, items: &[u8]) -> Vec<u8> {
        let nonce = self.next_nonce();
        seal(&self.key, &nonce, &number.to_le_bytes(), items)
    }

    /// Opens a record, and notes its key with its nonce.
    pub(super) fn open(
        &mut self,
        number: u64,
        body: &[u8],
        used: &mut Used,
    ) -> Result<Vec<u8>, String> {
        let nonce = self.next_nonce();
        used.note(&self.key, &nonce, body)?;
        open(&self.key, &nonce, &number.to_le_bytes(), body).ok_or(format!(
            "record {} of {} bytes does not open as number {number}",
            self.records,
            body.len()
        ))
    }
}

/// Every key with every nonce of a run, and what was sealed under them.
#[derive(Default)]
pub(super) struct Used(HashMap<(u64, u64), u64, FixedState>);

impl Used {
    /// Notes that `sealed` is under this key and nonce. To send the same bytes again is no second use.
    pub(super) fn note(
        &mut self,
        key: &Key,
        nonce: &[u8; 24],
        sealed: &[u8],
    ) -> Result<(), String> {
        let hash = |parts: &[&[u8]], salt: u64| {
            let mut hash = siphasher::sip::SipHasher13::new_with_keys(salt, 7);
            parts.iter().for_each(|part| hash.write(part));
            hash.finish()
        };
        let place = (hash(&[key, nonce], 1), hash(&[key, nonce], 2));
        let value = hash(&[sealed], 3);
        match self.0.insert(place, value) {
            Some(before) if before != value => {
                Err("one key seals two values with one nonce".into())
            }
            _ => Ok(()),
        }
    }

    /// Returns how many values were sealed.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
