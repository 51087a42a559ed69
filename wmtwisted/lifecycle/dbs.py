"""DBS: registers what a job made, with its parents, in the catalog of files."""

from __future__ import annotations

from wmtwisted.component.component import handles
from wmtwisted.lifecycle.agent import Agent
from wmtwisted.lifecycle.jobsubmitter import POST_PROCESS
from wmtwisted.message import Delivery, Flag
from wmtwisted.store.catalog import Catalog, FileCatalog


class DBS(Agent):
    """One of the two that a job's clean-up waits for."""

    def start(self) -> None:
        """Opens the job store and the catalog."""
        super().start()
        self.catalog: FileCatalog = Catalog(self.store.engine)

    @handles("JobProcessSuccess", sets=POST_PROCESS)
    def register(self, message: Delivery) -> Flag:
        """Registers the files; registering them again changes nothing."""
        job, files = self.made(message)
        self.catalog.register_files(files)
        return Flag(POST_PROCESS, str(job.id), self.name)
