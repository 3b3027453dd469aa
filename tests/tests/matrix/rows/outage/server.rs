//! A Postgres that one test may stop.

use local::postgres::Postgres;
use local::project::Project;
use local::python::Environment;

/// The server. Dropping it ends it and removes its data.
pub(super) struct Server {
    postgres: Postgres,
    project: Project,
    environment: Environment,
    name: String,
}

impl Server {
    /// Makes and starts one.
    pub(super) fn start() -> Self {
        let project = Project::find().unwrap_or_else(|failure| panic!("{failure}"));
        project.make_folders().unwrap_or_else(|failure| panic!("{failure}"));
        let environment = Environment::of_stack(&project);
        assert!(environment.is_ready(), "Postgres's programs are missing: run `cargo local up` once");
        let name = format!("outage-{}", std::process::id());
        let postgres = Postgres::start_apart(&project, &environment, &name, None);
        let postgres = postgres.unwrap_or_else(|failure| panic!("{failure}"));
        Self { postgres, project, environment, name }
    }

    /// The superuser's way in.
    pub(super) fn url(&self) -> String {
        self.postgres.url(local::postgres::DATABASE)
    }

    /// Ends it in the middle of whatever it does.
    pub(super) async fn stop(&self) {
        let postgres = self.postgres.clone();
        tokio::task::spawn_blocking(move || postgres.end_at_once()).await.expect("no panic");
        assert!(!self.postgres.is_alive());
    }

    /// Starts it where it was, and waits until it has recovered.
    pub(super) async fn start_again(&mut self) {
        let (project, environment, name) = (self.project.clone(), self.environment.clone(), self.name.clone());
        let port = self.postgres.port();
        let started =
            tokio::task::spawn_blocking(move || Postgres::start_apart(&project, &environment, &name, Some(port)));
        self.postgres = started.await.expect("no panic").unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(self.postgres.port(), port, "its port was taken meanwhile");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.postgres.end_at_once();
        if let Some(home) = self.postgres.data().parent() {
            // They lie where everything fetched and built lies, and nobody needs them any more.
            let _ = std::fs::remove_dir_all(home);
            let _ = std::fs::remove_file(self.project.log(&self.name));
        }
    }
}
