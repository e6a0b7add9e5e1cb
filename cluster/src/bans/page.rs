//! What stands in an engine of bans: pages, each one line of JSON that people can read. (SPEC 43.9)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::MAX_VALUE_BYTES;
use crate::record::{ClusterName, MAX_HOME, RecordError, plain};

/// The form of pages that this crate writes and reads.
const FORM: u32 = 1;
/// The most pages of a cluster.
pub const MAX_PAGES: u16 = 32;
/// The most bans that are shared.
pub const MAX_SHARED_BANS: usize = 128;
/// The most bytes of the note of a shared ban. The rest of a longer one stays at its edge.
pub const MAX_SHARED_NOTE_BYTES: usize = 64;
/// The longest life of a shared ban, in seconds: ten years. One for ever is told with this one.
pub const MAX_SHARED_SECS: u64 = 315_360_000;
/// How far clocks may differ, in seconds: a day. A ban may live longer by it, and is forgotten later by it.
pub const CLOCK_SLACK_SECS: u64 = 86_400;

/// A ban that the edges of a cluster share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedBan {
    /// The banned network.
    pub network: IpNet,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    /// The home of the edge at which it was made.
    pub home: u16,
    /// Words for people, of up to [`MAX_SHARED_NOTE_BYTES`].
    pub note: String,
}

impl SharedBan {
    /// A ban made at the edge with this `home` at `now`, in seconds since 1970. `secs`: how long it lasts, `None` for ever.
    #[must_use]
    pub fn new(network: IpNet, now: u64, secs: Option<u64>, home: u16, note: &str) -> SharedBan {
        let secs = secs.map_or(MAX_SHARED_SECS, |secs| secs.min(MAX_SHARED_SECS));
        SharedBan {
            network: network.trunc(),
            until: now.saturating_add(secs),
            home,
            note: plain_note(note),
        }
    }
}

/// Returns whether the ban of a network may be shared: it must not shut out the machine of an edge itself.
#[must_use]
pub fn may_be_shared(network: &IpNet) -> bool {
    let own = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    !own.iter().any(|own| network.contains(own))
}

/// Returns a note as it is shared: in any language, without what a terminal would obey.
fn plain_note(note: &str) -> String {
    plain(note, MAX_SHARED_NOTE_BYTES, |c| !c.is_control())
}

/// A page as an engine has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Grows with each write.
    pub(super) serial: u64,
    /// In the order of the networks.
    pub(super) bans: Vec<SharedBan>,
}

/// An entry that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadEntry(pub(super) &'static str);

#[derive(Serialize, Deserialize)]
struct Text {
    form: u32,
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    page: u16,
    #[serde(default)]
    serial: u64,
    #[serde(default)]
    bans: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
struct TextBan {
    net: String,
    until: u64,
    home: u16,
    #[serde(default)]
    note: String,
}

impl Page {
    /// Returns it as the value of a page. `None`: it has more than [`MAX_VALUE_BYTES`].
    pub(super) fn encode(&self, cluster: &ClusterName, page: u16) -> Option<Vec<u8>> {
        let bans = self.bans.iter().map(|ban| TextBan {
            net: ban.network.to_string(),
            until: ban.until,
            home: ban.home,
            note: ban.note.clone(),
        });
        #[derive(Serialize)]
        struct Whole<'a> {
            form: u32,
            cluster: &'a str,
            page: u16,
            serial: u64,
            bans: Vec<TextBan>,
        }
        let whole = Whole {
            form: FORM,
            cluster: cluster.as_str(),
            page,
            serial: self.serial,
            bans: bans.collect(),
        };
        let value = serde_json::to_vec(&whole).ok()?;
        (value.len() <= MAX_VALUE_BYTES).then_some(value)
    }

    /// Reads the value of a page at `now`, in seconds since 1970, and the entries that make no sense.
    ///
    /// # Errors
    /// When it is of another cluster or page, of a later version, or no page at all.
    pub(super) fn decode(
        value: &[u8],
        cluster: &ClusterName,
        page: u16,
        now: u64,
    ) -> Result<(Page, Vec<BadEntry>), RecordError> {
        use RecordError::{Foreign, Later, Nonsense};
        if value.len() > MAX_VALUE_BYTES {
            return Err(Nonsense("it is too long"));
        }
        let text: Text = serde_json::from_slice(value).map_err(|_| Nonsense("it is no page"))?;
        if text.form > FORM {
            return Err(Later(text.form));
        }
        if text.cluster != cluster.as_str() {
            let shown = text.cluster.chars().take(ClusterName::MAX_BYTES);
            return Err(Foreign(shown.map(shown_char).collect()));
        }
        let wrong = match () {
            () if text.form != FORM => Some("there is no such form"),
            () if text.page != page => Some("it is another page"),
            () if text.serial == 0 => Some("its serial is 0"),
            () => None,
        };
        if let Some(wrong) = wrong {
            return Err(Nonsense(wrong));
        }
        let (mut bans, mut bad) = (Vec::<SharedBan>::new(), Vec::new());
        for entry in text.bans {
            match read_entry(entry, now) {
                Ok(ban) if bans.iter().any(|known| known.network == ban.network) => {
                    bad.push(BadEntry("a network is there twice"));
                }
                Ok(ban) => bans.push(ban),
                Err(entry) => bad.push(entry),
            }
        }
        bans.sort_by_key(|ban| ban.network);
        let serial = text.serial;
        Ok((Page { serial, bans }, bad))
    }
}

fn shown_char(c: char) -> char {
    match c {
        '"' | '\\' => '?',
        c if c.is_ascii_graphic() || c == ' ' => c,
        _ => '?',
    }
}

fn read_entry(entry: Value, now: u64) -> Result<SharedBan, BadEntry> {
    let TextBan {
        net,
        until,
        home,
        note,
    } = serde_json::from_value(entry).map_err(|_| BadEntry("it is no ban"))?;
    let network: IpNet = net.parse().map_err(|_| BadEntry("it is of no network"))?;
    let wrong = match () {
        () if network.trunc() != network => Some("its network has bits behind its prefix"),
        () if !may_be_shared(&network) => Some("its network has the machine of an edge in it"),
        () if until > now.saturating_add(MAX_SHARED_SECS + CLOCK_SLACK_SECS) => {
            Some("it lasts longer than ten years")
        }
        () if home > MAX_HOME => Some("it is of no home"),
        () if note.len() > MAX_SHARED_NOTE_BYTES => Some("its note is too long"),
        () => None,
    };
    match wrong {
        Some(wrong) => Err(BadEntry(wrong)),
        None => Ok(SharedBan {
            network,
            until,
            home,
            note: plain_note(&note),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn game() -> ClusterName {
        "game".parse().expect("a name")
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn page() -> Page {
        let ban =
            |network, secs, home, note: &str| SharedBan::new(net(network), NOW, secs, home, note);
        Page {
            serial: 7,
            bans: vec![
                ban("203.0.113.7/32", Some(3_600), 3, "floods"),
                ban("2001:db8::/32", None, 1, ""),
            ],
        }
    }

    /// The example of SPEC 43.9.
    const EXAMPLE: &str = "{\"form\":1,\"cluster\":\"game\",\"page\":0,\"serial\":7,\"bans\":[\
        {\"net\":\"203.0.113.7/32\",\"until\":1790003600,\"home\":3,\"note\":\"floods\"},\
        {\"net\":\"2001:db8::/32\",\"until\":2105360000,\"home\":1,\"note\":\"\"}]}";

    #[test]
    fn a_page_is_a_line_that_people_can_read() {
        let value = page().encode(&game(), 0).expect("it has room");
        assert_eq!(std::str::from_utf8(&value).expect("text"), EXAMPLE);
        let read = Page::decode(&value, &game(), 0, NOW);
        assert_eq!(read, Ok((page(), Vec::new())));
        let spec = include_str!("../../../SPEC.txt");
        let spec: String = spec.split_whitespace().collect();
        assert!(spec.contains(EXAMPLE), "SPEC 43.9 has this example");
    }

    #[test]
    fn notes_and_lives_have_their_bounds() {
        let of = |secs, note: &str| SharedBan::new(net("192.0.2.9/24"), NOW, secs, 1, note);
        assert_eq!(of(None, "").network, net("192.0.2.0/24"));
        assert_eq!(of(None, "").until, NOW + MAX_SHARED_SECS);
        assert_eq!(of(Some(MAX_SHARED_SECS + 1), ""), of(None, ""));
        assert_eq!(of(Some(5), "").until, NOW + 5);
        let longest = "x".repeat(MAX_SHARED_NOTE_BYTES);
        assert_eq!(of(None, &longest).note, longest);
        assert_eq!(of(None, &format!("{longest}x")).note, longest);
        // Between two characters.
        let wide = "\u{fc}".repeat(MAX_SHARED_NOTE_BYTES);
        assert_eq!(of(None, &format!("x{wide}")).note.len(), 63);
        assert_eq!(of(None, "a\u{1b}[2J\"\\\n").note, "a?[2J???");
    }

    #[test]
    fn five_of_the_longest_have_room_on_a_page() {
        let cluster: ClusterName = "c".repeat(ClusterName::MAX_BYTES).parse().expect("a name");
        let longest = |number: u16| SharedBan {
            network: net(&format!("2001:db8:1234:5678:9abc:def0:1234:{number:x}/128")),
            until: NOW + MAX_SHARED_SECS + CLOCK_SLACK_SECS,
            home: MAX_HOME,
            note: "x".repeat(MAX_SHARED_NOTE_BYTES),
        };
        let full = Page {
            serial: u64::MAX,
            bans: (0x1000..0x1005).map(longest).collect(),
        };
        assert!(full.encode(&cluster, MAX_PAGES - 1).is_some());
        // So 128 have room, however pages are filled.
        assert!(usize::from(MAX_PAGES) * 5 >= MAX_SHARED_BANS);
        let mut beyond = full;
        beyond.bans.extend((0x1005..0x1008).map(longest));
        assert_eq!(beyond.encode(&cluster, 0), None);
    }

    #[test]
    fn what_is_no_page_of_this_cluster_is_refused_as_a_whole() {
        use RecordError::{Foreign, Later, Nonsense};
        let read = |text: &str| Page::decode(text.as_bytes(), &game(), 0, NOW);
        let replaced = |from: &str, to: &str| {
            assert!(EXAMPLE.contains(from), "{from}");
            read(&EXAMPLE.replace(from, to))
        };
        assert_eq!(
            replaced("\"game\"", "\"other\""),
            Err(Foreign("other".into()))
        );
        assert_eq!(read("{\"form\":2,\"new\":[]}"), Err(Later(2)));
        for (from, to) in [
            ("\"form\":1", "\"form\":0"),
            ("\"page\":0", "\"page\":1"),
            ("\"serial\":7", "\"serial\":0"),
            ("\"serial\":7", "\"serial\":-1"),
            ("\"bans\":[", "\"bans\":[["),
        ] {
            let outcome = replaced(from, to);
            assert!(matches!(outcome, Err(Nonsense(_))), "{to}: {outcome:?}");
        }
        for text in ["", "{}", "null", &" ".repeat(1_025), &"[".repeat(1_000)] {
            assert!(matches!(read(text), Err(Nonsense(_))), "{text:.9}");
        }
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_left_out_and_the_others_stay() {
        let latest = NOW + MAX_SHARED_SECS + CLOCK_SLACK_SECS;
        for (from, to) in [
            ("203.0.113.7/32", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7/24"),
            ("203.0.113.7/32", "127.0.0.0/8"),
            ("203.0.113.7/32", "0.0.0.0/0"),
            ("203.0.113.7/32", "::/0"),
            ("203.0.113.7/32", "2001:db8::/32"),
            ("1790003600", &*(latest + 1).to_string()),
            ("1790003600", "-1"),
            ("\"home\":3", "\"home\":4096"),
            ("floods", &*"x".repeat(MAX_SHARED_NOTE_BYTES + 1)),
        ] {
            let text = EXAMPLE.replace(from, to);
            let (read, bad) = Page::decode(text.as_bytes(), &game(), 0, NOW).expect(to);
            assert_eq!((read.bans.len(), bad.len()), (1, 1), "{to}");
        }
        let at_bound = EXAMPLE.replace("1790003600", &latest.to_string());
        let (read, bad) = Page::decode(at_bound.as_bytes(), &game(), 0, NOW).expect("a page");
        assert_eq!((read.bans.len(), bad.len()), (2, 0));
    }
}
