//! Ranks on separate machines: two network namespaces with an address each, and MPI's own launcher between them, for
//! which `ip netns exec` stands in for ssh.

use super::{Runs, fixture, same, wait_for_lines};
use crate::common::{Finished, toy_tsv, train_args};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Two namespaces joined by a cable; deleted on drop.
struct Hosts {
    names: [String; 2],
    agent: PathBuf,
}

const ADDRESSES: [&str; 2] = ["10.87.13.1", "10.87.13.2"];

fn ip(args: &str) -> bool {
    let done = Command::new("ip").args(args.split_whitespace()).output();
    done.is_ok_and(|output| output.status.success())
}

impl Hosts {
    /// `None` without root or `ip`.
    fn new(folder: &Path) -> Option<Self> {
        let names = ["a", "b"].map(|host| format!("bitfit-{}-{host}", std::process::id()));
        let [a, b] = &names;
        if !ip(&format!("netns add {a}")) {
            println!("left out: network namespaces need root and iproute2");
            return None;
        }
        let agent = folder.join("agent");
        // The first word MPI gives ssh is the host, the rest a command for its shell. Each host has its name.
        let script = format!(
            "#!/bin/sh\nshift\nexec ip netns exec {b} unshare --uts sh -c \"hostname host-b; $*\"\n"
        );
        fs::write(&agent, script).unwrap();
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
        let hosts = Self { names: names.clone(), agent };
        let steps = [
            format!("netns add {b}"),
            format!("link add va netns {a} type veth peer name vb netns {b}"),
            format!("-n {a} addr add {}/24 dev va", ADDRESSES[0]),
            format!("-n {b} addr add {}/24 dev vb", ADDRESSES[1]),
            format!("-n {a} link set va up"),
            format!("-n {b} link set vb up"),
            format!("-n {a} link set lo up"),
            format!("-n {b} link set lo up"),
        ];
        for step in steps {
            assert!(ip(&step), "ip {step}");
        }
        Some(hosts)
    }

    /// `mpirun` on the first host, with a rank on each.
    fn mpirun(&self) -> Command {
        let hosts = ADDRESSES.map(|address| format!("{address}:1")).join(",");
        let network = "10.87.13.0/24";
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[0], "unshare", "--uts", "sh", "-c"]);
        command.args(["hostname host-a; exec mpirun \"$@\"", "sh"]);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        for (name, value) in [
            ("plm_rsh_agent", self.agent.to_str().unwrap()),
            ("btl", "tcp,self"),
            ("btl_tcp_if_include", network),
            ("oob_tcp_if_include", network),
            // A host that no longer answers is noticed after seconds, not minutes.
            ("oob_tcp_keepalive_time", "2"),
            ("oob_tcp_keepalive_intvl", "1"),
            ("oob_tcp_keepalive_probes", "3"),
            ("hwloc_base_binding_policy", "none"),
        ] {
            command.args(["--mca", name, value]);
        }
        command.args(["--host", &hosts, "-n", "2", env!("CARGO_BIN_EXE_bitfit")]);
        command
    }

    /// Ends everything that runs on a host.
    fn switch_off(&self, host: usize) {
        let pids = Command::new("ip").args(["netns", "pids", &self.names[host]]).output();
        let pids = pids.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&pids).split_whitespace() {
            let _ = Command::new("kill").args(["-s", "KILL", pid]).status();
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for (host, name) in self.names.iter().enumerate() {
            self.switch_off(host);
            ip(&format!("netns del {name}"));
        }
    }
}

#[test]
fn two_hosts_train_as_two_ranks_on_one_and_a_host_that_is_cut_off_ends_the_job_which_goes_on() {
    let runs = Runs::new();
    let Some(hosts) = Hosts::new(&runs.folder.path("")) else {
        return;
    };
    let here = runs.folder.path("here");
    Finished::of(super::mpirun(2).args(runs.args(&here))).success();
    let two = runs.folder.path("two");
    let ran = Finished::of(hosts.mpirun().args(runs.args(&two))).success();
    assert!(ran.stderr.contains("2 ranks: 1 on host-a, 1 on host-b"), "{}", ran.stderr);
    same(&here, &two);

    // Long enough to be cut off in the middle.
    let data = runs.folder.write("long.tsv", toy_tsv(600, 3));
    let options =
        "--lr 5e-3 --epochs 40 --batch-size 8 --dropout 0.1 --save-steps 5 --precision f32";
    let args = |output: &Path| train_args(&fixture("bert"), &data, output, options);
    let whole = runs.folder.path("whole");
    Finished::of(hosts.mpirun().args(args(&whole))).success();
    let cut = runs.folder.path("cut");
    let mut command = hosts.mpirun();
    command.args(args(&cut));
    // Not through a pipe: what is left on the other host keeps it open until it notices that it is on its own.
    let said = runs.folder.path("said");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
    let mut job = command.spawn().unwrap();
    wait_for_lines(&mut job, &cut, 50);
    assert!(ip(&format!("-n {} link set va down", hosts.names[0])));
    let ended = job.wait().unwrap();
    let said = fs::read_to_string(&said).unwrap();
    assert!(!ended.success(), "{said}");
    assert!(said.contains(ADDRESSES[1]) || said.contains("host-b"), "{said}");
    hosts.switch_off(1);
    assert!(ip(&format!("-n {} link set va up", hosts.names[0])));
    Finished::of(hosts.mpirun().args(["train", "--resume", "--output"]).arg(&cut)).success();
    same(&whole, &cut);
}
