//! haproxy: one thread, connections to the upstream kept and shared.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Plan;
use crate::cases::Protocol;
use crate::pki::NAME;

pub(super) fn command(plan: &Plan<'_>) -> Result<(PathBuf, Vec<String>)> {
    let path = plan.write("haproxy.cfg", &config(plan))?;
    let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.is_file())
        .context("haproxy is not installed (Debian: apt-get install haproxy)")?;
    let args = ["-db", "-f", &path.display().to_string()].map(str::to_owned);
    Ok((program, args.to_vec()))
}

fn config(plan: &Plan<'_>) -> String {
    let mode = if plan.case.protocol == Protocol::Tcp {
        "tcp"
    } else {
        "http"
    };
    let http2 = plan.case.protocol == Protocol::Http2;
    let mut bind = String::new();
    let mut server = String::new();
    if plan.tls_in() {
        bind.push_str(&format!(
            " ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3 no-tls-tickets alpn {}",
            plan.pki.file("both.pem"),
            plan.pki.file("ca.pem"),
            if http2 { "h2" } else { "http/1.1" }
        ));
    } else if http2 {
        bind.push_str(" proto h2");
    }
    if plan.tls_out() {
        server.push_str(&format!(
            " ssl crt {} ca-file {} verify required verifyhost {NAME} sni str({NAME}) ssl-min-ver TLSv1.3 alpn {}",
            plan.pki.file("both.pem"),
            plan.pki.file("ca.pem"),
            if http2 { "h2" } else { "http/1.1" }
        ));
    } else if http2 {
        server.push_str(" proto h2");
    }
    let reuse = if mode == "http" { "  http-reuse always\n" } else { "" };
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n  tune.ssl.cachesize 0\n  ssl-server-verify none\n\
         defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n\
         frontend front\n  bind 127.0.0.1:{}{bind} backlog 4096\n  default_backend app\n\
         backend app\n{reuse}  server one {}{server} pool-max-conn -1\n",
        plan.listen(),
        plan.to(),
    )
}
