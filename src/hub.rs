//! Placeholder until the hub branch lands.
pub fn resolve(model: &str, _quiet: bool) -> anyhow::Result<std::path::PathBuf> {
    Ok(model.into())
}
