mod problem;
mod yaml;
pub use problem::Problem;
