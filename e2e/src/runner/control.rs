//! The control plane in a pod of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::folder::Folder;
use super::process::{Process, Program, User};
use super::{http, objects, services};
use crate::netns::{Family, Network, Space};

/// What the directory says of the control plane itself.
pub const OBJECTS: &str = r"
apiVersion: v1
kind: Namespace
metadata:
  name: istio-system
---
apiVersion: v1
kind: Service
metadata:
  name: istiod
  namespace: istio-system
  labels: {app: istiod, istio: pilot}
spec:
  selector: {app: istiod}
  ports:
  - {name: grpc-xds, port: 15010, protocol: TCP}
  - {name: https-dns, port: 15012, protocol: TCP}
  - {name: http-monitoring, port: 15014, protocol: TCP}
";

/// The running control plane.
#[derive(Debug)]
pub struct Control {
    /// Where it runs.
    pub space: Space,
    process: Process,
}

impl Control {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it ends or takes longer than 20 seconds.
    pub fn start(network: &Network, folder: &Folder, mesh_config: Option<&str>) -> Result<Control> {
        let space = network.add("istiod")?;
        let dns = network.dns_address();
        network.write_etc(
            &space,
            "resolv.conf",
            &services::resolv_conf(dns, mesh_api::names::ROOT_NAMESPACE),
        )?;
        let mut arguments: Vec<String> = vec!["serve".to_owned(), "--source".to_owned()];
        arguments.push(format!("dir:{}", folder.config().display()));
        arguments.extend(["--ca-dir".to_owned(), folder.ca().display().to_string()]);
        if network.family() == Family::V6 {
            arguments.extend(["--listen".to_owned(), "::".to_owned()]);
        }
        if let Some(text) = mesh_config {
            let file = folder.config().with_file_name("mesh-config.yaml");
            objects::write_whole(&file, text)?;
            arguments.extend(["--mesh-config".to_owned(), file.display().to_string()]);
        }
        let log_level = std::env::var("MESH_LOG").unwrap_or_else(|_| "info".to_owned());
        let program = Program {
            name: "mesh-control".to_owned(),
            path: folder.program("mesh-control")?,
            arguments,
            env: vec![("MESH_LOG".to_owned(), log_level)],
            user: User::ROOT,
        };
        let log = folder.logs().join("mesh-control.log");
        let process = Process::start(&space, program, &log)?;
        let mut control = Control { space, process };
        control.wait_ready()?;
        folder.publish_root_cert()?;
        Ok(control)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let to = SocketAddr::from((self.space.ip, mesh_api::names::port::CONTROL_MONITORING));
        loop {
            if http::send(None, http::Call::get(to, "/ready")).is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.process.ended() {
                bail!("mesh-control ended ({status}):\n{}", self.process.last_words());
            }
            if Instant::now() > deadline {
                bail!("mesh-control does not get ready:\n{}", self.process.last_words());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again and waits until it serves.
    ///
    /// # Errors
    /// As [`Control::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process.start_again()?;
        self.wait_ready()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }
}
