mod layer;
mod load;
mod policy;

use std::path::{Path, PathBuf};

use std::time::SystemTime;
use voltlane_doors::tls::{
    CertificateFiles, ClientSettings, ClientTls, Roots, ServerSettings, ServerTls, TlsFault,
    TlsLayer,
};

pub(crate) const MAX_HANDSHAKE_BYTES: usize = 8_192;

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/certificates")
        .join(name)
}

pub(crate) fn certificate(name: &str) -> CertificateFiles {
    CertificateFiles::new(file(&format!("{name}.pem")), file(&format!("{name}.key")))
}

pub(crate) fn server_settings(names: &[&str]) -> ServerSettings {
    let mut settings = ServerSettings::default();
    settings.certificates = names.iter().map(|name| certificate(name)).collect();
    settings
}

pub(crate) fn server(settings: &ServerSettings) -> ServerTls {
    ServerTls::load(settings, SystemTime::now())
        .expect("it loads")
        .0
}

pub(crate) fn client_settings(name: &str) -> ClientSettings {
    ClientSettings::new(name, Roots::File(file("authority.pem")))
}

pub(crate) fn client(settings: &ClientSettings) -> ClientTls {
    ClientTls::load(settings).expect("it loads")
}

/// One end of a connection in memory, with what a stream would keep.
pub(crate) struct End {
    pub(crate) layer: TlsLayer,
    pub(crate) plain: Vec<u8>,
    pub(crate) out: Vec<u8>,
}

impl End {
    pub(crate) fn new(layer: Result<TlsLayer, TlsFault>) -> End {
        End {
            layer: layer.expect("a layer"),
            plain: Vec::new(),
            out: Vec::new(),
        }
    }

    pub(crate) fn server(tls: &ServerTls) -> End {
        End::new(TlsLayer::server(tls, MAX_HANDSHAKE_BYTES))
    }

    pub(crate) fn client(tls: &ClientTls) -> End {
        let mut end = End::new(TlsLayer::client(tls));
        end.take(&[]).expect("a hello");
        end
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), TlsFault> {
        let plain = &mut self.plain;
        let mut bytes = bytes.to_vec();
        self.layer.read(
            &mut bytes,
            |payload| plain.extend_from_slice(payload),
            &mut self.out,
        )
    }

    pub(crate) fn write(&mut self, plain: &[u8]) {
        self.layer.write(plain, &mut self.out).expect("it is open");
    }
}

/// Moves bytes both ways, in pieces of `piece`, until there are none.
pub(crate) fn run(client: &mut End, server: &mut End, piece: usize) -> Result<(), TlsFault> {
    while !client.out.is_empty() || !server.out.is_empty() {
        let up = std::mem::take(&mut client.out);
        let taken = up.chunks(piece).try_for_each(|chunk| server.take(chunk));
        let down = std::mem::take(&mut server.out);
        let given = down.chunks(piece).try_for_each(|chunk| client.take(chunk));
        taken.and(given)?;
    }
    Ok(())
}
