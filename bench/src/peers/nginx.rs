//! nginx: one process, connections to the upstream kept.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Plan;
use crate::cases::{Chain, Protocol};
use crate::pki::NAME;

/// Where Debian puts the module for TCP.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn command(plan: &Plan<'_>) -> Result<(PathBuf, Vec<String>)> {
    let text = match plan.case.protocol {
        Protocol::Tcp => tcp(plan),
        Protocol::Http1 | Protocol::Http2 | Protocol::Https => http(plan),
    };
    let path = plan.write("nginx.conf", &text)?;
    let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.is_file())
        .context("nginx is not installed (Debian: apt-get install nginx-light libnginx-mod-stream)")?;
    let args = ["-c", &path.display().to_string(), "-e", "stderr"].map(str::to_owned);
    Ok((program, args.to_vec()))
}

/// One process does the work of master and worker: what is measured is a worker.
fn head(folder: &Path, role: u16) -> String {
    format!(
        "daemon off;\nmaster_process off;\npid {}/nginx-{role}.pid;\nerror_log stderr error;\nevents {{ worker_connections 8192; }}\n",
        folder.display()
    )
}

fn http(plan: &Plan<'_>) -> String {
    let mut text = head(plan.folder, plan.listen());
    let (to, port) = (plan.to(), plan.listen());
    let _ = write!(
        text,
        "http {{\naccess_log off;\nserver_tokens off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 600s;\ntcp_nodelay on;\n\
         server_names_hash_max_size 8192;\nserver_names_hash_bucket_size 128;\nclient_max_body_size 0;\n\
         upstream app {{ server {to}; keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 600s; }}\n"
    );
    for part in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "{part}_temp_path {}/nginx-temp;", plan.folder.display());
    }
    let http2 = plan.case.protocol == Protocol::Http2;
    let listen = format!(
        "listen 127.0.0.1:{port} backlog=4096{}{};",
        if plan.tls_in() { " ssl" } else { "" },
        if http2 { " http2" } else { "" }
    );
    // nginx speaks HTTP/2 to an upstream only as gRPC.
    let pass = if http2 { "grpc" } else { "proxy" };
    let scheme = match (http2, plan.tls_out()) {
        (true, false) => "grpc",
        (true, true) => "grpcs",
        (false, false) => "http",
        (false, true) => "https",
    };
    let mut location = format!("location / {{ {pass}_pass {scheme}://app;\n");
    if http2 {
        location.push_str("grpc_buffer_size 32k; grpc_set_header Host $host;\n");
    } else {
        location.push_str(
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; proxy_buffer_size 16k; proxy_buffers 8 16k;\n\
             proxy_max_temp_file_size 0; proxy_request_buffering off;\n",
        );
    }
    if plan.tls_out() {
        let (cert, key, ca) = (
            plan.pki.file("cert.pem"),
            plan.pki.file("key.pem"),
            plan.pki.file("ca.pem"),
        );
        let _ = write!(
            location,
            "{pass}_ssl_certificate {cert}; {pass}_ssl_certificate_key {key}; {pass}_ssl_trusted_certificate {ca};\n\
             {pass}_ssl_verify on; {pass}_ssl_name {NAME}; {pass}_ssl_server_name on; {pass}_ssl_protocols TLSv1.3;\n"
        );
    }
    location.push_str("}\n");
    let tls = if plan.tls_in() { tls_in(plan) } else { String::new() };
    let hosts = match plan.case.chain {
        Chain::Hosts(count) => count,
        Chain::Bare | Chain::Sidecar(_) | Chain::Pushed(_) => 0,
    };
    let _ = writeln!(text, "server {{ {listen}\nserver_name _;\n{tls}{location}}}");
    for number in 0..hosts {
        let listen = format!("listen 127.0.0.1:{port};");
        let _ = writeln!(
            text,
            "server {{ {listen}\nserver_name {};\n{location}}}",
            super::envoy::host(number)
        );
    }
    text.push_str("}\n");
    text
}

fn tls_in(plan: &Plan<'_>) -> String {
    format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on; ssl_protocols TLSv1.3;\n\
         ssl_session_tickets off; ssl_session_cache off;\n",
        plan.pki.file("cert.pem"),
        plan.pki.file("key.pem"),
        plan.pki.file("ca.pem"),
    )
}

fn tcp(plan: &Plan<'_>) -> String {
    let mut text = format!("load_module {STREAM_MODULE};\n{}", head(plan.folder, plan.listen()));
    let _ = write!(
        text,
        "stream {{\nserver {{ listen 127.0.0.1:{}{}; proxy_pass {}; tcp_nodelay on; proxy_buffer_size 64k;\n",
        plan.listen(),
        if plan.tls_in() { " ssl" } else { "" },
        plan.to()
    );
    if plan.tls_in() {
        text.push_str(&tls_in(plan));
    }
    if plan.tls_out() {
        let _ = write!(
            text,
            "proxy_ssl on; proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_trusted_certificate {};\n\
             proxy_ssl_verify on; proxy_ssl_name {NAME}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;\n",
            plan.pki.file("cert.pem"),
            plan.pki.file("key.pem"),
            plan.pki.file("ca.pem"),
        );
    }
    text.push_str("}\n}\n");
    text
}
