//! The name in a certificate, for people.

use der::{AnyRef, Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The maximum number of characters of a name. What is beyond is left out.
const MAX_CHARS: usize = 256;

/// The attributes that have a short name (RFC 4514 section 3), by the contents of their identifiers.
const SHORT: [(&[u8], &str); 6] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
];

/// Returns the subject of a certificate, as in `CN=anna,O=Example`. If it is empty, the names of hosts that the certificate is for. `None`:
/// it names nobody.
pub(super) fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let name = match subject(parsed.subject()) {
        Some(name) if !name.is_empty() => name,
        _ => {
            let hosts = parsed.valid_dns_names();
            hosts.collect::<Vec<_>>().join(",")
        }
    };
    let shown: String = name.chars().take(MAX_CHARS).collect();
    Some(shown).filter(|shown| !shown.is_empty())
}

/// Formats a subject: the names in it, the last one first, as RFC 4514 has them.
fn subject(contents: &[u8]) -> Option<String> {
    let names = elements(contents)?.into_iter().rev();
    let shown = names.map(|name| {
        let attributes = elements(name.value())?.into_iter();
        let shown = attributes.map(|attribute| shown(attribute.value()));
        Some(shown.collect::<Option<Vec<_>>>()?.join("+"))
    });
    Some(shown.collect::<Option<Vec<_>>>()?.join(","))
}

/// Returns the elements of DER in a row. `None`: that is not what it is.
fn elements(contents: &[u8]) -> Option<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(contents).ok()?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(AnyRef::decode(&mut reader).ok()?);
    }
    Some(elements)
}

/// Formats an attribute of a name (RFC 5280 section 4.1.2.4).
fn shown(attribute: &[u8]) -> Option<String> {
    let [kind, value] = elements(attribute)?.try_into().ok()?;
    let short = SHORT.iter().find(|(known, _)| *known == kind.value());
    let kind = short.map_or_else(
        || {
            let bytes = kind.value().iter();
            bytes.fold("OID#".to_owned(), |out, byte| format!("{out}{byte:02x}"))
        },
        |(_, short)| (*short).to_owned(),
    );
    let is_text = matches!(
        value.tag(),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String
    );
    if !is_text {
        return Some(format!("{kind}=?"));
    }
    let text = String::from_utf8_lossy(value.value());
    // No name looks like two, and none changes a line.
    let special = |of: char| matches!(of, ',' | '+' | '=' | '\\');
    let mut out = format!("{kind}=");
    for of in text.chars() {
        match of {
            _ if of.is_control() || is_direction(of) => out.push('?'),
            _ if special(of) => out.extend(['\\', of]),
            _ => out.push(of),
        }
    }
    Some(out)
}

/// Returns whether it changes the direction of the text around it, which would look like another one then (Unicode, annex 9).
fn is_direction(of: char) -> bool {
    matches!(of, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes an element of DER with fewer than 128 bytes.
    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = u8::try_from(contents.len()).expect("short");
        [&[tag, length], contents].concat()
    }

    fn name(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
        let names = attributes.iter().map(|(kind, tag, text)| {
            let pair = [element(6, kind), element(*tag, text)].concat();
            element(0x31, &element(0x30, &pair))
        });
        names.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_subject_is_one_line_and_its_parts_cannot_be_forged() {
        let (common, organization, mail) = ([0x55, 4, 3], [0x55, 4, 10], [0x55, 4, 99]);
        for (attributes, expected) in [
            (vec![], ""),
            (
                vec![
                    (&organization[..], 12, &b"Example"[..]),
                    (&common, 19, b"anna"),
                ],
                "CN=anna,O=Example",
            ),
            (vec![(&common, 12, b"a,CN=root\n")], "CN=a\\,CN\\=root?"),
            (vec![(&common, 4, b"bytes")], "CN=?"),
            (
                vec![(
                    &common,
                    12,
                    "a\u{202e}b\u{202a}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}".as_bytes(),
                )],
                "CN=a?b??????",
            ),
            (
                vec![(&common, 12, "\u{200d}\u{2065}".as_bytes())],
                "CN=\u{200d}\u{2065}",
            ),
            (vec![(&mail, 12, "\u{e4}".as_bytes())], "OID#550463=\u{e4}"),
        ] {
            assert_eq!(subject(&name(&attributes)).as_deref(), Some(expected));
        }
        for bad in [
            &b"x"[..],
            &[0x31, 5, 0],
            &[0x31, 2, 0x30, 9],
            &[0x31, 2, 0x30, 0],
        ] {
            assert_eq!(subject(bad), None, "{bad:?}");
        }
    }
}
