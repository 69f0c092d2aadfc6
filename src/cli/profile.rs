//! The arguments of `profile`.

use clap::Args;
use std::path::PathBuf;

use super::choice::choice;
use super::compute::at_least_one;
use super::step_args::StepArgs;
use crate::settings::method::Method;

/// Help that follows the options of `profile`.
pub const EXAMPLES: &str = "\
Examples:
  bitfit profile --model ./minilm --batch-size 32 --max-length 128
  bitfit profile --model ./bert --device cuda --method lora --json profile.json --picture roofline.svg";

/// Arguments of `profile`.
#[derive(Debug, Clone, Args)]
pub struct ProfileArgs {
    #[command(flatten)]
    pub step: StepArgs,
    /// What trains
    #[arg(long, value_parser = choice::<Method>(), default_value_t, help_heading = "What trains")]
    pub method: Method,
    /// How many times the step is timed; the tables show medians
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one(), help_heading = "Running")]
    pub repeat: usize,
    /// Also write the results to this file, as one JSON object
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// On a GPU: also time each product with every tile size, and write the table for tiles.tsv to this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub tiles: Option<PathBuf>,
    /// Also draw a roofline plot of the operations, as .svg or .png
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub picture: Option<PathBuf>,
}
