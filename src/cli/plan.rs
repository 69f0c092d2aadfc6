//! The arguments of `plan`.

use clap::Args;

use super::choice::choice;
use super::compute::at_least_one;
use super::step_args::StepArgs;
use crate::settings::bytes::ByteSize;
use crate::settings::method::Method;

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub step: StepArgs,
    /// Methods to plan, one per column, joined by commas; with --list the one whose step is printed [default:
    /// bitfit,head,full; with --list bitfit]
    #[arg(long, value_name = "NAMES", value_parser = choice::<Method>(), value_delimiter = ',', help_heading = "What trains")]
    pub method: Vec<Method>,

    /// Show what fits into this much memory: 4GiB, 512MiB, or bytes
    #[arg(long, value_name = "SIZE", help_heading = "Memory")]
    pub memory: Option<ByteSize>,

    /// Print the step instead, one line per operation: shapes, bytes kept, FLOPs, and the gradient it computes
    #[arg(long, conflicts_with = "allocate", help_heading = "Listing")]
    pub list: bool,
    /// With --list: the device's speed in matrix products, in TFLOP/s; with --bandwidth, shows a lower bound of the
    /// step's time
    #[arg(
        long,
        value_name = "TFLOP/s",
        requires = "list",
        requires = "bandwidth",
        help_heading = "Listing"
    )]
    pub rate: Option<f64>,
    /// With --list: the device's memory bandwidth, in GB/s
    #[arg(
        long,
        value_name = "GB/s",
        requires = "list",
        requires = "rate",
        help_heading = "Listing"
    )]
    pub bandwidth: Option<f64>,

    /// Also allocate the planned memory on the device, without a checkpoint, and show the sizes
    #[arg(long, help_heading = "Memory")]
    pub allocate: bool,

    /// Processes that share each batch (mpirun -n N): shows the memory of each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one(), help_heading = "Running")]
    pub ranks: usize,
}
