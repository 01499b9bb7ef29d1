//! Which role an image name asks for.

use anyhow::{Result, bail};

/// What the application does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// fake-service.
    Fake {
        /// How the reply lists its upstream calls.
        calls: CallsForm,
    },
    /// The catalog of the labs.
    Catalog,
    /// The web application of the labs.
    Webapp,
    /// Shows requests.
    Httpbin,
    /// Echoes on TCP ports.
    TcpEcho,
    /// Does nothing.
    Idle,
}

/// fake-service changed the form of `upstream_calls` once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallsForm {
    /// A list: up to v0.17, and what the labs read by `.upstream_calls[0].body`.
    List,
    /// An object with the URI as key: later releases.
    Map,
}

impl Role {
    /// The role of `REGISTRY/NAME:TAG`.
    ///
    /// # Errors
    /// When no role has this name.
    pub fn of(image: &str) -> Result<Role> {
        let last = image.rsplit('/').next().unwrap_or(image);
        let name = last.split(['@', ':']).next().unwrap_or(last);
        let tag = last.split_once(':').map_or("", |(_, tag)| tag);
        Ok(match name {
            "fake-service" => Role::Fake { calls: calls_form(tag) },
            "catalog" => Role::Catalog,
            "webapp" => Role::Webapp,
            "httpbin" | "go-httpbin" => Role::Httpbin,
            "tcp-echo" | "tcp-echo-server" => Role::TcpEcho,
            "netshoot" | "curl" | "curl-ssl" | "sleep" | "busybox" | "pause" | "debian" | "alpine" => Role::Idle,
            _ => bail!(
                "image {image:?}: there is no container runtime here, and the sample application plays only fake-service, \
                 catalog, webapp, httpbin, tcp-echo and clients that wait (netshoot, curl, sleep)"
            ),
        })
    }
}

fn calls_form(tag: &str) -> CallsForm {
    let mut numbers = tag
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(0), Some(minor)) if minor <= 17 => CallsForm::List,
        (None, _) => CallsForm::List,
        _ => CallsForm::Map,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_labs_are_known() {
        let list = Role::Fake { calls: CallsForm::List };
        assert_eq!(Role::of("nicholasjackson/fake-service:v0.17.0").ok(), Some(list));
        let map = Role::Fake { calls: CallsForm::Map };
        assert_eq!(Role::of("nicholasjackson/fake-service:v0.26.2").ok(), Some(map));
        assert_eq!(Role::of("istioinaction/catalog:latest").ok(), Some(Role::Catalog));
        assert_eq!(Role::of("registry:5000/istioinaction/webapp").ok(), Some(Role::Webapp));
        assert_eq!(Role::of("nicolaka/netshoot").ok(), Some(Role::Idle));
        let error = Role::of("mysql:8").expect_err("unknown").to_string();
        assert!(error.contains("mysql:8"), "{error}");
    }
}
