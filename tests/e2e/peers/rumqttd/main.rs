//! The broker, as its own program starts it, from the configuration in the file that is named.

use std::process::ExitCode;

fn main() -> ExitCode {
    let path = std::env::args_os().nth(1).unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let config = text.and_then(|text| toml::from_str::<rumqttd::Config>(&text).map_err(|error| error.to_string()));
    match config.map(|config| rumqttd::Broker::new(config).start()) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error.to_string()),
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("rumqttd: {error}");
    ExitCode::FAILURE
}
