"""Phedex: registers where the copies of a job's files lie, so that they can be transferred."""

from __future__ import annotations

from wmtwisted.component.component import handles
from wmtwisted.lifecycle.agent import Agent
from wmtwisted.lifecycle.jobsubmitter import POST_PROCESS
from wmtwisted.message import Delivery, Flag
from wmtwisted.store.catalog import Catalog, FileCatalog


class Phedex(Agent):
    """The other one that a job's clean-up waits for; option `location` names this site."""

    def start(self) -> None:
        """Opens the job store and the catalog."""
        super().start()
        self._location = self.option("location", "local")
        self.catalog: FileCatalog = Catalog(self.store.engine)

    @handles("JobProcessSuccess", sets=POST_PROCESS)
    def register(self, message: Delivery) -> Flag:
        """Registers the copies; registering them again changes nothing."""
        job, files = self.made(message)
        self.catalog.register_replicas([file.lfn for file in files], self._location)
        return Flag(POST_PROCESS, str(job.id), self.name)
