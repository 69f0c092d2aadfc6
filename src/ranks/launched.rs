//! Whether a launcher (mpirun, srun) started this process as one of several.

use std::env;

/// What is known about a launcher from the variables that it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// Processes that it started.
    pub processes: usize,
    /// The variable that says so.
    pub variable: &'static str,
}

/// From Open MPI; from MPICH, Intel MPI and others with PMI; from Slurm's srun.
const VARIABLES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// The launcher of this process. A shell inside a Slurm allocation has none until srun.
pub fn launched() -> Option<Launcher> {
    by(|name| env::var(name).ok())
}

fn by(variable: impl Fn(&str) -> Option<String>) -> Option<Launcher> {
    VARIABLES.into_iter().find_map(|name| {
        let processes = variable(name)?.trim().parse().ok()?;
        Some(Launcher { processes, variable: name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_are_known_by_their_variables() {
        let found = |set: &'static str, value: &'static str| {
            by(|name| (name == set).then(|| value.to_owned()))
        };
        for variable in VARIABLES {
            assert_eq!(found(variable, "4"), Some(Launcher { processes: 4, variable }));
            assert_eq!(found(variable, "many"), None);
        }
        assert_eq!(found("SLURM_NTASKS", "4"), None);
    }
}
