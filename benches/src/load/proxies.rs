//! The configurations of HAProxy and nginx: each client has a connection of its own to the backend.

use std::net::SocketAddr;
use std::path::Path;

use super::carriage::Carriage;
use super::program::Launch;

/// Returns HAProxy's. By default it has a thread for each CPU that it may use.
pub(super) fn haproxy(listen: SocketAddr, launch: &Launch) -> String {
    let backend = launch.backend;
    let mode = match launch.carriage.has_websocket() {
        true => "http",
        false => "tcp",
    };
    let tls = match launch.carriage.has_tls() {
        true => " ssl crt both.pem",
        false => "",
    };
    format!(
        "global\n  maxconn 9000\ndefaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 5m\n  \
         timeout server 5m\n  timeout tunnel 5m\nlisten edge\n  bind {listen}{tls} backlog 4096\n  server backend {backend}\n"
    )
}

/// Returns nginx's: a server of its stream module, or one of HTTP that passes an upgrade on.
pub(super) fn nginx(
    binary: &Path,
    listen: SocketAddr,
    launch: &Launch,
    directory: &Path,
) -> String {
    // `auto` counts the machine's CPUs, whichever of them nginx may use.
    let workers = match launch.cpus.len() {
        0 => "auto".to_owned(),
        cpus => cpus.to_string(),
    };
    let (load, server) = match launch.carriage.has_websocket() {
        true => (String::new(), nginx_http(listen, launch, directory)),
        false => (nginx_module(binary), nginx_stream(listen, launch)),
    };
    let directory = directory.display();
    format!(
        "{load}daemon off;\nworker_processes {workers};\npid {directory}/nginx.pid;\n\
         error_log stderr crit;\nevents {{ worker_connections 19000; }}\n{server}"
    )
}

fn nginx_module(binary: &Path) -> String {
    // Debian builds the stream module as a shared object, in /usr/lib next to /usr/sbin. Other builds contain it.
    let module = binary
        .parent()
        .map(|sbin| sbin.join("../lib/nginx/modules/ngx_stream_module.so"));
    let load = module
        .filter(|path| path.exists())
        .map(|path| format!("load_module {};\n", path.display()));
    load.unwrap_or_default()
}

/// Returns what `listen` has behind the address, and the files of the certificate.
fn nginx_tls(carriage: Carriage) -> (&'static str, &'static str) {
    match carriage.has_tls() {
        true => (
            " ssl",
            "ssl_certificate both.pem; ssl_certificate_key both.pem; ssl_protocols TLSv1.3; ",
        ),
        false => ("", ""),
    }
}

fn nginx_stream(listen: SocketAddr, launch: &Launch) -> String {
    let (ssl, certificate) = nginx_tls(launch.carriage);
    let backend = launch.backend;
    format!(
        "stream {{\n  server {{ listen {listen}{ssl} backlog=4096; {certificate}proxy_pass {backend}; tcp_nodelay on; \
         proxy_timeout 5m; }}\n}}\n"
    )
}

fn nginx_http(listen: SocketAddr, launch: &Launch, directory: &Path) -> String {
    let (ssl, certificate) = nginx_tls(launch.carriage);
    let (backend, directory) = (launch.backend, directory.display());
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
        .concat();
    format!(
        "http {{\naccess_log off;\n{temporary}server {{ listen {listen}{ssl} backlog=4096; {certificate}location / {{ \
         proxy_pass http://{backend}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection upgrade; proxy_read_timeout 5m; }} }}\n}}\n"
    )
}
