//! The admin interface, by `ctl` and by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use conformance::handshake::{encoded, hello, new_keys};
use conformance::others::free_address;
use conformance::{Directory, Edge, Frames, PATIENCE, Rig, bytes_of, metrics};
use voltlane_core::v2::packets::Handshake;

use super::rig;

/// A socket in a folder that lives as long as this.
struct Place {
    folder: Directory,
    socket: PathBuf,
    config: String,
}

fn place(more: &str) -> Place {
    let folder = Directory::new();
    let socket = folder.path().join("admin.sock");
    let config = format!(
        "[admin]\naddress = \"unix:{}\"\n{more}\n[metrics]\naddress = \"127.0.0.1:0\"\n",
        socket.display()
    );
    Place {
        folder,
        socket,
        config,
    }
}

impl Place {
    /// Runs `ctl` with these words. Returns its exit code and its output.
    fn ctl(&self, words: &str) -> (Option<i32>, String) {
        self.folder.write("connserver.toml", &self.config);
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = super::PROGRAM
            .command(&self.folder, &words)
            .output()
            .expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        (output.status.code(), text)
    }

    #[track_caller]
    fn good(&self, words: &str) -> String {
        let (code, text) = self.ctl(words);
        assert_eq!(code, Some(0), "{words}: {text}");
        text
    }

    /// Returns the ids of the sessions that `ctl` lists with these words, in its order.
    #[track_caller]
    fn listed(&self, words: &str) -> Vec<String> {
        let text = self.good(&format!("ctl sessions --json {words}"));
        let page: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_ne!(page["whole"], false, "{page}");
        let sessions = page["sessions"].as_array().expect("a list").iter();
        let ids = sessions.map(|one| one["id"].as_str().expect("text").to_owned());
        ids.collect()
    }

    /// Sends a request to the socket as it is. Returns the status and the rest.
    fn raw(&self, request: &str) -> (u16, String) {
        let stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        asked(stream, request)
    }
}

fn asked(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    // The edge may answer before it has read all.
    let _ = stream.write_all(request.as_bytes());
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{request}: {text}")), text)
}

fn over_tcp(address: SocketAddr, request: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    asked(stream, request)
}

/// Returns the ids of all sessions, page by page.
fn ids(place: &Place, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = String::new();
    loop {
        let text = place.good(&format!("ctl sessions --json --limit {limit}{after}"));
        let words: Vec<&str> = text.split('"').collect();
        let of = |name: &str| {
            let pairs = words.windows(3).filter(move |three| three[0] == name);
            pairs.map(|three| three[2].to_owned()).collect::<Vec<_>>()
        };
        ids.extend(of("id"));
        match of("next")
            .first()
            .filter(|_| !text.contains("\"next\":null"))
        {
            Some(next) => after = format!(" --after {next}"),
            None => return ids,
        }
    }
}

#[test]
fn sessions_are_listed_shown_and_kicked_on_every_shard() {
    let place = place("");
    let mut rig: Rig = rig(&place.config);
    rig.edge.expect_log("admin address=unix:");
    let mode = std::fs::metadata(&place.socket)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut clients: Vec<_> = (0..9).map(|_| rig.join()).collect();
    let mut known: Vec<_> = clients
        .iter()
        .map(|client| client.id().to_string())
        .collect();
    known.sort();
    for limit in [1, 4, 1000] {
        let mut found = ids(&place, limit);
        found.sort();
        assert_eq!(found, known, "{limit}");
    }
    assert_eq!(place.listed("--listener main").len(), 9);
    let (code, text) = place.ctl("ctl sessions --listener other");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("no listener has this name"), "{text}");
    let status = place.good("ctl status");
    assert!(
        status.contains("9 attached, 0 away") && status.contains("ready"),
        "{status}"
    );
    assert!(place.good("top --once").contains("shard 0: "));
    let one = place.good(&format!("ctl session {}", known[0]));
    assert!(one.contains("attached") && one.contains(&known[0]), "{one}");
    place.good(&format!("ctl kick {} --text enough", known[0]));
    let (code, text) = place.ctl(&format!("ctl kick {}", known[0]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("there is no such session"), "{text}");
    let kicked = clients
        .iter()
        .position(|client| client.id().to_string() == known[0]);
    let mut kicked = clients.remove(kicked.expect("it joined"));
    kicked.frames.expect_closed();
    assert_eq!(ids(&place, 1000).len(), 8);
    let line = rig.edge.expect_log("/kick");
    assert!(
        line.contains("who=uid ") && line.contains("enough"),
        "{line}"
    );
    let line = rig.edge.expect_log("event=\"session_end\"");
    assert!(
        line.contains(&format!("id={}", known[0])) && line.contains("reason=\"kicked\""),
        "{line}"
    );
    assert!(!line.contains("enough"), "{line}");
    let (code, text) = place.ctl(&format!("ctl kick {} --code 104", known[1]));
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = place.ctl("ctl session nonsense");
    assert_eq!(
        (code, text.contains("16 hexadecimal")),
        (Some(2), true),
        "{text}"
    );
}

#[test]
fn sessions_are_sorted_by_what_waits_for_them() {
    let place = place("");
    let mut rig = rig(&format!("{}{}", super::HEALING, place.config));
    let here = rig.join();
    let mut waits = Vec::new();
    for packets in [1, 3, 2] {
        let client = rig.join();
        let id = client.id();
        client.leave();
        for n in 0..packets {
            rig.link.send(id, &bytes_of(n, 100));
        }
        waits.push(id.to_string());
    }
    rig.fence();
    let expected = [&waits[1], &waits[2], &waits[0]].map(Clone::clone);
    assert_eq!(
        place.listed("--sort queue --state away --limit 3"),
        expected
    );
    assert_eq!(place.listed("--sort queue --limit 1"), expected[..1]);
    assert_eq!(
        place.listed("--sort queue --state attached"),
        [here.id().to_string()]
    );
    for words in [
        "--sort weight",
        "--sort queue --after 0.1",
        "--sort queue --limit 0",
    ] {
        assert_eq!(
            place.ctl(&format!("ctl sessions {words}")).0,
            Some(2),
            "{words}"
        );
    }
    let sorted = "GET /v1/sessions?sort=queue&after=0.1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (status, text) = place.raw(sorted);
    assert_eq!(
        (status, text.contains("has no pages")),
        (400, true),
        "{text}"
    );
}

#[test]
fn all_sessions_of_a_source_or_of_a_listener_are_kicked() {
    let place = place("");
    let mut rig = rig(&format!("limits.exempt = []\n{}", place.config));
    let mut clients: Vec<_> = (0..5).map(|_| rig.join()).collect();
    let one = clients.pop().expect("there are five");
    let away = one.id();
    one.leave();
    assert_eq!(ids(&place, 1000).len(), 5);
    let said = place.good("ctl kick --json --source 203.0.113.0/24");
    assert_eq!(said, "{\"kicked\":0}\n");
    assert_eq!(ids(&place, 1000).len(), 5);
    let said = place.good("ctl kick --listener main --text enough");
    assert!(said.contains('4'), "{said}");
    for client in &mut clients {
        client.frames.expect_closed();
    }
    let line = rig.edge.expect_log("call=POST /v1/sessions/kick");
    assert!(line.contains("who=uid "), "{line}");
    // One that is away has no listener, and its source is known.
    assert_eq!(ids(&place, 1000), [away.to_string()]);
    let said = place.good("ctl kick --json --source 127.0.0.0/8");
    assert_eq!(said, "{\"kicked\":1}\n");
    assert_eq!(ids(&place, 1000), Vec::<String>::new());
    for words in [
        "",
        "0123456789abcdef --source 127.0.0.1",
        "--listener other",
        "--source x",
    ] {
        assert_eq!(
            place.ctl(&format!("ctl kick {words}")).0,
            Some(2),
            "{words}"
        );
    }
    let json = "Host: localhost\r\nContent-Type: application/json\r\n";
    for (body, says) in [
        ("{}", "source or listener is missing"),
        ("{\"state\":\"away\"}", "source or listener is missing"),
        ("{\"source\":\"::1\",\"code\":104}", "a code is 401"),
        ("{\"source\":\"::1\",\"ids\":1}", "unknown field"),
        ("{\"source\":\"::1\",\"after\":\"x\"}", "after is the"),
    ] {
        let length = body.len();
        let request = format!(
            "POST /v1/sessions/kick HTTP/1.1\r\n{json}Content-Length: {length}\r\n\r\n{body}"
        );
        let (status, text) = place.raw(&request);
        assert_eq!((status, text.contains(says)), (400, true), "{body}: {text}");
    }
}

#[test]
fn a_drain_is_seen_in_readiness_and_can_be_undone() {
    let place = place("");
    let mut rig = rig(&place.config);
    let one = rig.join();
    let address = rig.edge.metrics_address();
    place.good("ctl drain --spread-secs 0");
    let (status, says) = metrics::get(address, "/readyz");
    assert_eq!((status, says.contains("drained")), (503, true), "{says}");
    assert_eq!(rig.edge.metrics().value("voltlane_draining"), 1);
    let mut newcomer = Frames::connect(rig.address());
    hello(&mut newcomer);
    let key = new_keys();
    newcomer.write(&encoded(Handshake::PubKey(key.public().as_bytes())));
    newcomer.expect_closed();
    place.good("ctl drain --undo");
    assert_eq!(metrics::get(address, "/readyz").0, 200);
    rig.join();
    drop(one);
}

#[test]
fn bans_are_listed_and_lifted_and_keep_connections_out() {
    let place = place("");
    let rig = rig(&place.config);
    let (code, text) = place.ctl("ctl ban 127.0.0.0/8");
    assert_eq!((code, text.contains("force")), (Some(2), true), "{text}");
    place.good("ctl ban 127.0.0.0/8 --force --secs 600 --note loop");
    place.good("ctl ban 203.0.113.7");
    let bans = place.good("ctl bans");
    assert!(
        bans.contains("127.0.0.0/8") && bans.contains("loop"),
        "{bans}"
    );
    assert!(bans.contains("203.0.113.7/32"), "{bans}");
    let rest = place.good("ctl bans --after 127.0.0.0/8");
    assert!(
        rest.contains("203.0.113.7/32") && !rest.contains("127.0.0.0/8"),
        "{rest}"
    );
    Frames::connect(rig.address()).expect_closed();
    assert!(
        rig.edge
            .metrics()
            .value("voltlane_rejects_total{reason=\"banned\"}")
            > 0
    );
    place.good("ctl unban 127.0.0.0/8");
    assert_eq!(place.ctl("ctl unban 127.0.0.0/8").0, Some(1));
    assert_eq!(place.ctl("ctl ban 10.0.0.1/8").0, Some(2));
    let mut rig = rig;
    rig.join();
}

#[test]
fn bans_outlive_a_restart_in_their_file() {
    let folder = Directory::new();
    let file = folder.path().join("bans");
    let place = place(&format!("ban_file = \"{}\"\n", file.display()));
    let first = rig(&place.config);
    place.good("ctl ban 203.0.113.0/24 --note first");
    place.good("ctl ban 198.51.100.7 --secs 600");
    place.good("ctl ban 192.0.2.0/24");
    place.good("ctl unban 192.0.2.0/24");
    drop(first);
    let second = rig(&place.config);
    second.edge.expect_log("networks are banned as before");
    let bans = place.good("ctl bans");
    for part in ["203.0.113.0/24", "first", "198.51.100.7/32"] {
        assert!(bans.contains(part), "{bans}");
    }
    assert!(!bans.contains("192.0.2.0"), "{bans}");
    // A place that cannot be written to: the ban is in effect, and the answer says what is not.
    drop(folder);
    let (code, text) = place.ctl("ctl ban 192.0.2.0/24");
    assert_eq!(
        (code, text.contains("until a restart")),
        (Some(1), true),
        "{text}"
    );
    assert!(place.good("ctl bans").contains("192.0.2.0/24"));
}

#[test]
fn the_level_of_the_log_changes_for_a_while_and_a_reload_is_told_in_the_log() {
    let place = place("");
    let rig = rig(&place.config);
    place.good("ctl log debug --secs 1");
    rig.edge.expect_log("is again what is configured");
    assert_eq!(place.ctl("ctl log loud").0, Some(2));
    place.good("ctl log off");
    rig.edge.expect_log("asked={\"level\":\"off\"");
    place.good("ctl log info");
    place.good("ctl reload");
    // The folder of its file is gone.
    rig.edge.expect_log("the one in effect stays");
    let config = place.good("ctl config");
    assert!(config.contains("limits.accept_rate = 2000"), "{config}");
    let tail = place.good("ctl tail --secs 1");
    assert!(tail.contains("attached=0"), "{tail}");
}

#[test]
fn what_is_no_call_is_refused_with_the_reason() {
    let place = place("read_only = true\n");
    let rig = rig(&place.config);
    let json = "Host: localhost\r\nContent-Type: application/json\r\n";
    let long = "x".repeat(9_000);
    for (request, status) in [
        (
            "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            200,
        ),
        ("GET /v1/status HTTP/1.1\r\n\r\n".into(), 403),
        (
            "GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(),
            403,
        ),
        (
            "GET /v1/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            404,
        ),
        (
            "PUT /v1/drain HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            405,
        ),
        (
            "POST /v1/drain HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            415,
        ),
        (
            format!("POST /v1/drain HTTP/1.1\r\n{json}Origin: http://localhost\r\n\r\n"),
            403,
        ),
        (format!("POST /v1/drain HTTP/1.1\r\n{json}\r\n"), 403),
        (
            format!("POST /v1/drain HTTP/1.1\r\n{json}Content-Length: 65537\r\n\r\n"),
            413,
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            431,
        ),
        (
            "GET /v1/sessions?limit=1001 HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            400,
        ),
        (
            "GET /v1/sessions?after=x HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            400,
        ),
        (
            "GET /v1/sessions?sort=x HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            400,
        ),
        (
            "GET /v1/config?x=y HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            400,
        ),
        (
            "GET /v1/bans?after=10.0.0.0/8&after=10.0.0.0/8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                .into(),
            400,
        ),
        ("nonsense\r\n\r\n".into(), 400),
        ("GET /v1/status HTTP/1.1\r\nHost: loc".into(), 408),
    ] {
        let (got, text) = place.raw(&request);
        assert_eq!(got, status, "{request:.80}: {text}");
    }
    let line = rig.edge.expect_log("result=admin.read_only is set");
    assert!(line.contains("call=POST /v1/drain status=403"), "{line}");
}

#[test]
fn over_tcp_a_token_is_needed_and_wrong_ones_are_slowed_down() {
    let folder = Directory::new();
    let output = super::PROGRAM.command(&folder, &["admin-token"]).output();
    let token = String::from_utf8(output.expect("it runs").stdout).expect("text");
    let file = folder.path().join("token");
    std::fs::write(&file, &token).expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let config = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"{}\"\n",
        file.display()
    );
    let rig = rig(&config);
    let line = rig.edge.expect_log("admin address=");
    let (_, address) = line.split_once("address=").expect("it was looked for");
    let address: SocketAddr = address.trim().parse().expect("an address");
    let token = token.trim();
    let ask = |shown: &str| {
        let request = format!("GET /v1/status HTTP/1.1\r\nHost: {address}\r\n{shown}\r\n");
        over_tcp(address, &request)
    };
    let right = format!("authorization: bearer {token}\r\n");
    let (status, text) = ask(&right);
    assert_eq!((status, text.contains(token)), (200, false), "{text}");
    let twice = format!("{right}{right}");
    assert_eq!(ask(&twice).0, 400);
    let shorter = format!("Authorization: Bearer {}\r\n", &token[1..]);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) {
        assert!(statuses.len() < 100, "{statuses:?}");
        let wrong = if statuses.len() % 2 == 0 {
            &*shorter
        } else {
            ""
        };
        statuses.push(ask(wrong).0);
    }
    assert!(
        statuses[..statuses.len() - 1]
            .iter()
            .all(|status| *status == 401),
        "{statuses:?}"
    );
    // After that second the right one is let in again.
    while ask(&right).0 != 200 {}
    assert!(!rig.edge.log().contains(token));
}

#[test]
fn callers_beyond_the_bound_are_turned_away_and_silent_ones_end() {
    const MOST: usize = 16;
    let place = place("");
    let _rig = rig(&place.config);
    let connect = || {
        let stream = UnixStream::connect(&place.socket).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        stream
    };
    let mut all: Vec<UnixStream> = (0..3 * MOST).map(|_| connect()).collect();
    for stream in &mut all {
        let mut text = String::new();
        // Those without a place end at once, the others when they have said nothing for too long.
        let _ = stream.read_to_string(&mut text);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 408 "),
            "{text}"
        );
    }
    drop(all);
    place.good("ctl status");
    // Those that are silent keep nobody out meanwhile.
    let silent: Vec<UnixStream> = (0..MOST).map(|_| connect()).collect();
    place.good("ctl status");
    drop(silent);
}

#[test]
fn who_follows_sees_ended_sessions_and_changes_and_the_page_is_there() {
    let place = place("");
    let mut rig = rig(&place.config);
    let client = rig.join();
    let id = client.id().to_string();
    let mut stream = UnixStream::connect(&place.socket).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
    let mut until = |part: &str| {
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(part)));
        line.expect("it goes on").expect("a line")
    };
    until("event: status");
    place.good("ctl log error");
    place.good(&format!("ctl kick {id} --text enough"));
    until("/v1/log_level");
    let end = until("\"session_end\"");
    assert!(
        end.contains(&id) && end.contains("\"reason\":\"kicked\""),
        "{end}"
    );
    place.good("ctl ban 203.0.113.0/24");
    until("/v1/bans");
    let (status, page) = place.raw("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status, 200);
    assert!(
        page.contains("Content-Security-Policy: ") && page.contains("</html>"),
        "{page}"
    );
}

#[test]
fn a_place_without_protection_is_not_opened() {
    for (config, says) in [
        (
            "[admin]\naddress = \"127.0.0.1:0\"\n",
            "admin.token_file is empty",
        ),
        (
            "[admin]\naddress = \"unix:@voltlane\"\n",
            "admin.peer_uids is empty",
        ),
    ] {
        let folder = Directory::new();
        folder.write("connserver.toml", config);
        let output = super::PROGRAM.command(&folder, &["check"]).output();
        let output = output.expect("it runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(says), "{text}");
    }
    let place = place("");
    let (code, text) = place.ctl("ctl status");
    assert_eq!(
        (code, text.contains("no answer from")),
        (Some(1), true),
        "{text}"
    );
    let folder = Directory::new();
    let output = super::PROGRAM.command(&folder, &["ctl", "status"]).output();
    assert_eq!(output.expect("it runs").status.code(), Some(2));
}

#[test]
fn the_status_says_which_of_several_edges_it_is() {
    let place = place("");
    let config = format!(
        "{}[master]\nprotocol = \"3\"\n[cluster]\nhome = 3\nname = \"game\"\n",
        place.config
    );
    let edge = Edge::start(super::PROGRAM, free_address(), &config);
    let status = place.good("ctl status");
    assert!(
        status.contains("\nhome 3 of the cluster game, without an engine\n"),
        "{status}"
    );
    edge.stop();
    let rig = rig(&place.config);
    let status = place.good("ctl status");
    assert!(!status.contains("cluster"), "{status}");
    rig.stop();
}
