//! Chooses a certificate by the name that a client asks for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by name: the exact name, then a wildcard, then the first unless names are strict.
#[derive(Debug)]
pub(super) struct ByName {
    first: Arc<CertifiedKey>,
    /// Names in lower case. A wildcard is its name without the star: `.example.com`.
    names: HashMap<String, Arc<CertifiedKey>>,
    is_strict: bool,
}

impl ByName {
    pub(super) fn new(first: Arc<CertifiedKey>, is_strict: bool) -> Self {
        ByName {
            first,
            names: HashMap::new(),
            is_strict,
        }
    }

    /// Adds a name, unless an earlier certificate has it. Returns whether it was added.
    pub(super) fn insert(&mut self, name: &str, certificate: &Arc<CertifiedKey>) -> bool {
        let name = name.strip_prefix('*').unwrap_or(name);
        match self.names.entry(name.to_ascii_lowercase()) {
            Entry::Vacant(free) => {
                free.insert(Arc::clone(certificate));
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        // A client that connects to an address names nothing.
        let Some(name) = name else {
            return Some(Arc::clone(&self.first));
        };
        let name = name.to_ascii_lowercase();
        let found = self.names.get(&name).or_else(|| {
            let dot = name.find('.')?;
            self.names.get(&name[dot..])
        });
        match found {
            Some(certificate) => Some(Arc::clone(certificate)),
            None if self.is_strict => None,
            None => Some(Arc::clone(&self.first)),
        }
    }
}

/// Returns whether a client that asks for `name` takes a certificate with these names. All are in small letters.
pub(super) fn is_covered(name: &str, names: &[String]) -> bool {
    names.iter().any(|own| {
        let of_star = own.strip_prefix('*').zip(name.find('.'));
        own == name || of_star.is_some_and(|(rest, dot)| name[dot..] == *rest)
    })
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}
