//! The program under a launcher of several processes, when built without MPI. `tests/mpi.rs` tests it with MPI.
#![cfg(not(feature = "mpi"))]

use crate::common::*;

#[test]
fn without_mpi_one_of_several_processes_does_nothing() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(6, 2));
    let output = folder.path("out");
    for variable in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"] {
        let mut command = bitfit(train_args(&fixture("bert"), &data, &output, "--steps 1"));
        Finished::of(command.env(variable, "4"))
            .fails(2, &["a launcher started 4 processes", variable, "--features mpi"]);
        assert!(!output.exists());
    }
    // One process is one process, however it is started.
    let mut command = bitfit(train_args(&fixture("bert"), &data, &output, "--steps 1"));
    Finished::of(command.env("OMPI_COMM_WORLD_SIZE", "1")).success();
    assert!(Finished::of(&mut bitfit(["doctor"])).success().stdout.contains("--features mpi"));
}
