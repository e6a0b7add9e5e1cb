//! The backend's address leads back to the edge.

use conformance::{Directory, Edge, alone_in_a_network};

/// Two addresses of an interface, and the name of the host as Debian writes it.
const ADDRESSES: &str = "ip addr add 192.0.2.5/24 dev lo && ip addr add 192.0.2.6/24 dev lo \
    && mount -t tmpfs none /mnt && printf '127.0.1.1 host.test\n' > /mnt/hosts \
    && mount --bind /mnt/hosts /etc/hosts";

/// The configuration does not know the addresses of the host, nor what a name resolves to. The connection shows it.
#[test]
fn an_edge_is_not_its_own_backend_under_any_address_of_its_host() {
    alone_in_a_network(ADDRESSES, || {
        for (master, own) in [
            ("192.0.2.5:42000", "0.0.0.0:42000"),
            ("192.0.2.6:42000", "0.0.0.0:42000"),
            ("host.test:42000", "0.0.0.0:42000"),
            ("192.0.2.5:42001", "0.0.0.0:42001"),
        ] {
            for shards in [1, 2] {
                let directory = Directory::new();
                let config =
                    format!("general.shards = {shards}\nmetrics.address = \"0.0.0.0:42001\"\n");
                directory.write("connserver.toml", config);
                let arguments = ["--listen", "0.0.0.0:42000", "--master", master];
                let edge = Edge::spawn(super::PROGRAM.command(&directory, &arguments));
                let says = format!(
                    "the connection led to this process itself, which listens at {own}: that is no backend"
                );
                edge.expect_log(&says);
                let up = edge.metrics().value("voltlane_link_up");
                assert_eq!(up, 0, "{master}, {shards} shards");
                assert!(!edge.log().contains("the backend is there"), "{master}");
                edge.stop();
            }
        }
    });
}
