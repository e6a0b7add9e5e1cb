//! HAProxy and nginx in front of an edge. (SPEC 10.7, 16.2)

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use conformance::handshake::encoded;
use conformance::others::{connect_from, find, free_address, wait_for_listener};
use conformance::shim::{Carriage, Shim as _, certificate_file, tls_as};
use conformance::{Backend, Client, Directory, Edge, Frames, Process, Rig};
use voltlane_core::v2::packets::Handshake;

use super::{rigs, start, use_doors};

/// Where clients come from. The proxies come from 127.0.0.1.
fn sources(pair: u8) -> [Ipv4Addr; 2] {
    [2, 3].map(|last| Ipv4Addr::new(127, 0, pair, last))
}

/// One client of each source, of which one proxy tells. A refusal does not wait for the end of a handshake.
const ONE_EACH: &str = "listener.trusted_proxies = [\"127.0.0.1\"]\nlimits.source_connections = 1\nlistener.versions = [2]\nlimits.exempt = [\"127.0.0.1\"]\n\
                        limits.handshake_timeout_secs = 60\nclients.missed_packets_buffer_size = 10\n";

const HAPROXY: &str = "global\n  log stderr format raw local0\n\
                       defaults\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 60s\n";

/// Starts HAProxy with sections behind the defaults, and waits until it listens.
fn haproxy(directory: &Directory, sections: &str, listens: SocketAddr) -> Option<Process> {
    let command = find("haproxy")?;
    directory.write("haproxy.cfg", format!("{HAPROXY}{sections}"));
    let file = directory.file("haproxy.cfg").display().to_string();
    Some(listening(command, &["-db", "-f", &file], listens))
}

fn listening(command: Command, arguments: &[&str], listens: SocketAddr) -> Process {
    let mut process = start(command, arguments);
    wait_for_listener(&mut process, listens);
    process
}

/// Writes the edge's certificate and key, for a proxy that ends TLS, into one file.
fn certificate(directory: &Directory) -> String {
    let read = |name| std::fs::read_to_string(certificate_file(name)).expect("it is there");
    directory.write("both.pem", read("edge.pem") + &read("edge.key"));
    directory.file("both.pem").display().to_string()
}

/// Clients of two sources, through doors that a function makes for each. The second of one source is refused.
fn check_sources(rig: &mut Rig, pair: u8, door: impl Fn(Ipv4Addr) -> Frames) {
    let [here, there] = sources(pair);
    let mut first = Client::join_over(door(here));
    rig.round_trip(&mut first, b"the first from here");
    door(here).expect_closed();
    let mut other = Client::join_over(door(there));
    rig.round_trip(&mut other, b"from there");
    rig.round_trip(&mut first, b"still here");
}

#[test]
fn haproxy_tells_with_a_header_whose_connection_it_is() {
    let config = format!("{ONE_EACH}listener.proxy_protocol = \"required\"\n");
    for mut rig in rigs(&config) {
        let directory = Directory::new();
        let edge = rig.address();
        // Version 1, version 2, and version 2 with what it knows of TLS.
        let faces = [
            ("send-proxy", free_address(), String::new()),
            (
                "send-proxy-v2 proxy-v2-options unique-id,crc32c",
                free_address(),
                String::new(),
            ),
            (
                "send-proxy-v2-ssl-cn",
                free_address(),
                format!(" ssl crt {}", certificate(&directory)),
            ),
        ];
        let sections: String = faces.iter().map(|(header, address, tls)| {
            let name = address.port();
            format!(
                "listen at-{name}\n  mode tcp\n  unique-id-format %ts\n  bind {address}{tls}\n  server edge {edge} {header} check inter 50ms\n"
            )
        }).collect();
        let Some(_haproxy) = haproxy(&directory, &sections, faces[2].1) else {
            return;
        };
        // The edge may hear of the end of one pair of clients after the beginning of the next.
        for ((header, address, tls), pair) in faces.iter().zip(0..) {
            check_sources(&mut rig, pair, |source| match tls.is_empty() {
                true => Frames::new(connect_from(source, *address).expect(header)),
                false => Frames::connect(Carriage::Tls.shim_from(source, *address)),
            });
        }
        rig.stop();
    }
}

/// HAProxy ends TLS and verifies the client's certificate. The edge's log says whose it is.
#[test]
fn haproxy_tells_whose_certificate_it_has_verified() {
    let config = "general.log_level = \"Debug\"\nlistener.proxy_protocol = \"required\"\n\
                  listener.trusted_proxies = [\"127.0.0.1\"]\n";
    let authority = certificate_file("authority.pem").display().to_string();
    for mut rig in rigs(config) {
        let (directory, front, edge) = (Directory::new(), free_address(), rig.address());
        let certificate = certificate(&directory);
        let sections = format!(
            "listen tls\n  mode tcp\n  bind {front} ssl crt {certificate} ca-file {authority} verify optional alpn voltlane/2\n  \
             server edge {edge} send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,authority\n"
        );
        let Some(_haproxy) = haproxy(&directory, &sections, front) else {
            return;
        };
        for (own, says) in [
            (Some("client"), "certificate=client is_verified=true"),
            (None, "certificate= is_verified=false"),
        ] {
            let socket = connect_from(Ipv4Addr::LOCALHOST, front).expect("it listens");
            let mut stream = tls_as(socket, "edge.example.com", own).expect("TLS");
            let version = encoded(Handshake::ProtocolVersion(2));
            stream.write_all(&version).expect("it is taken");
            stream.read_exact(&mut [0]).expect("the edge's key");
            let line = rig.edge.next_log("a proxy tells of the TLS that it ended");
            assert!(line.contains(says), "{line}");
            assert!(line.contains("version=TLSv1.3"), "{line}");
            assert!(line.contains("asked_for=edge.example.com"), "{line}");
        }
        rig.stop();
    }
}

/// HAProxy passes TLS on as it is, and tells in front of it whose connection it is. Its health checks are no offence.
#[test]
fn haproxy_passes_tls_on_behind_a_header() {
    for carriage in [Carriage::Tls, Carriage::WebSocketTls] {
        let config = format!(
            "{}{ONE_EACH}listener.proxy_protocol = \"required\"\nmetrics.address = \"127.0.0.1:0\"\n",
            carriage.config()
        );
        for mut rig in rigs(&config) {
            let (directory, front, edge) = (Directory::new(), free_address(), rig.address());
            let sections = format!(
                "listen through\n  mode tcp\n  option tcplog\n  option log-health-checks\n  bind {front}\n  \
                 server edge {edge} send-proxy-v2 check inter 50ms\n"
            );
            let Some(_haproxy) = haproxy(&directory, &sections, front) else {
                return;
            };
            let door = |source| carriage.shim_from(source, front);
            let [here, there] = sources(0);
            let doors = [door(here), door(there)];
            check_sources(&mut rig, 0, |source| {
                Frames::connect(doors[usize::from(source != here)])
            });
            let [from, back] = [4, 5].map(|last| door(Ipv4Addr::new(127, 0, 0, last)));
            use_doors(&mut rig, from, back);
            let offences = "voltlane_closes_total{reason=\"bad_transport\"}";
            assert_eq!(rig.edge.metrics().value(offences), 0);
            rig.stop();
        }
    }
}

/// The link within TLS, to a HAProxy that wants a certificate of the edge.
#[test]
fn haproxy_ends_the_tls_of_the_link() {
    let file = |name: &str| certificate_file(name).display().to_string();
    let authority = file("authority.pem");
    for program in crate::PROGRAMS {
        let (directory, front, backend) = (Directory::new(), free_address(), Backend::bind());
        let (certificate, behind) = (certificate(&directory), backend.address());
        let sections = format!(
            "listen link\n  mode tcp\n  bind {front} ssl crt {certificate} ca-file {authority} verify required\n  server backend {behind}\n"
        );
        let Some(_haproxy) = haproxy(&directory, &sections, front) else {
            return;
        };
        let config = format!(
            "clients.missed_packets_buffer_size = 10\nmaster.tls = true\nmaster.tls_server_name = \"edge.example.com\"\n\
             master.tls_ca_file = {authority:?}\nmaster.tls_certificate_file = {:?}\nmaster.tls_key_file = {:?}\n",
            file("client.pem"),
            file("client.key")
        );
        let edge = Edge::start(program, front, &config);
        let (link, door) = (backend.accept(), edge.address());
        let mut rig = Rig {
            edge,
            backend,
            link,
        };
        use_doors(&mut rig, door, door);
        rig.stop();
    }
}

/// What is in front of an edge with WebSocket, ends TLS, and tells in X-Forwarded-For where a request comes from.
fn check_terminator(begin: impl Fn(&Directory, SocketAddr, SocketAddr) -> Option<Process>) {
    let config = format!(
        "{}{ONE_EACH}listener.forwarded = \"x-forwarded-for\"\n",
        Carriage::WebSocket.config()
    );
    for mut rig in rigs(&config) {
        let (directory, front) = (Directory::new(), free_address());
        let Some(_proxy) = begin(&directory, front, rig.address()) else {
            return;
        };
        let door = |source| Carriage::WebSocketTls.shim_from(source, front);
        let [here, there] = sources(0);
        let doors = [door(here), door(there)];
        check_sources(&mut rig, 0, |source| {
            Frames::connect(doors[usize::from(source != here)])
        });
        let [from, back] = [4, 5].map(|last| door(Ipv4Addr::new(127, 0, 0, last)));
        use_doors(&mut rig, from, back);
        rig.stop();
    }
}

#[test]
fn haproxy_ends_tls_and_forwards_websockets() {
    check_terminator(|directory, front, edge| {
        let certificate = certificate(directory);
        let sections = format!(
            "frontend wss\n  mode http\n  bind {front} ssl crt {certificate} alpn http/1.1\n  option forwardfor\n  default_backend edge\n\
             backend edge\n  mode http\n  option httpchk\n  http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host edge\n  \
             option log-health-checks\n  server edge {edge} check inter 50ms\n"
        );
        let haproxy = haproxy(directory, &sections, front)?;
        haproxy.wait_for_log("Layer7 check passed, code: 200");
        Some(haproxy)
    });
}

#[test]
fn nginx_ends_tls_and_forwards_websockets() {
    check_terminator(|directory, front, edge| {
        let command = find("nginx")?;
        let certificate = certificate(directory);
        let own = directory.path().display().to_string();
        directory.write("nginx.conf", format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path {own}/body;\nproxy_temp_path {own}/proxy;\nfastcgi_temp_path {own}/fastcgi;\n\
             uwsgi_temp_path {own}/uwsgi;\nscgi_temp_path {own}/scgi;\n\
             server {{\n  listen {front} ssl;\n  ssl_certificate {certificate};\n  ssl_certificate_key {certificate};\n  location / {{\n    \
             proxy_pass http://{edge};\n    proxy_http_version 1.1;\n    proxy_set_header Upgrade $http_upgrade;\n    \
             proxy_set_header Connection upgrade;\n    proxy_set_header Host $host;\n    \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n  }}\n}}\n}}\n"
        ));
        let file = directory.file("nginx.conf").display().to_string();
        Some(listening(
            command,
            &["-p", &own, "-e", "stderr", "-c", &file],
            front,
        ))
    });
}
