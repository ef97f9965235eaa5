//! A network of the test's own: nodes in network namespaces of the kernel, joined by a bridge, each of which can be taken off it.
//! Needs root; where there is none, tests use [`crate::processes::link`].

use std::path::Path;
use std::process::Command;

use crate::processes::binary::anabranch;
use crate::processes::command;

/// The namespaces, removed when dropped.
pub struct Network {
    tag: String,
    hosts: usize,
}

impl Network {
    /// A network of `hosts` hosts, numbered from 1; or why there can be none here.
    pub fn new(name: &str, hosts: usize) -> Result<Self, String> {
        let network = Self { tag: format!("ab{}{name}", std::process::id()), hosts };
        network.build()?;
        Ok(network)
    }

    fn build(&self) -> Result<(), String> {
        let hub = self.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "switch", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "switch", "up"])?;
        for host in 1..=self.hosts {
            let (name, port) = (self.host(host), port(host));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "link", "add", "eth", "type", "veth", "peer", "name", &port, "netns", &hub])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", self.address(host)), "dev", "eth"])?;
            ip(&["-n", &name, "link", "set", "eth", "up"])?;
            ip(&["-n", &hub, "link", "set", &port, "up", "master", "switch"])?;
        }
        Ok(())
    }

    /// A host's address.
    pub fn address(&self, host: usize) -> String {
        format!("10.77.0.{host}")
    }

    /// Gives a host an address more.
    pub fn add_address(&self, host: usize, address: &str, device: &str) {
        ip(&["-n", &self.host(host), "addr", "add", address, "dev", device]).expect("an address can be added");
    }

    /// Takes an address from a host.
    pub fn remove_address(&self, host: usize, address: &str, device: &str) {
        ip(&["-n", &self.host(host), "addr", "del", address, "dev", device]).expect("an address can be removed");
    }

    /// Takes a host off the network: packets vanish without a word, in both directions.
    pub fn cut(&self, host: usize) {
        ip(&["-n", &self.hub(), "link", "set", &port(host), "nomaster"]).expect("a bridge port can be taken off");
    }

    /// Puts it back.
    pub fn heal(&self, host: usize) {
        ip(&["-n", &self.hub(), "link", "set", &port(host), "master", "switch"])
            .expect("a bridge port can be put back");
    }

    /// `anabranch` on a host.
    pub fn program(&self, host: usize, directory: &Path) -> Command {
        let plain = command::program(directory);
        let mut inside = Command::new("ip");
        // `ip netns exec` becomes the program, so the process is the node itself.
        inside.args(["netns", "exec", &self.host(host)]).arg(anabranch());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    fn hub(&self) -> String {
        format!("{}h", self.tag)
    }

    fn host(&self, host: usize) -> String {
        format!("{}n{host}", self.tag)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Those that were not made cannot be removed; that is fine.
        for host in 1..=self.hosts {
            let _ = ip(&["netns", "del", &self.host(host)]);
        }
        let _ = ip(&["netns", "del", &self.hub()]);
    }
}

fn port(host: usize) -> String {
    format!("p{host}")
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let words = arguments.join(" ");
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("ip {words}: {error}")),
    }
}
