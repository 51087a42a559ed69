"""Tells twistd of the broker and of components."""

from twisted.application.service import ServiceMaker

wmbroker = ServiceMaker(
    "wmtwisted broker", "wmtwisted.tap.broker", "The message broker and its page.", "wmbroker"
)
wmcomponent = ServiceMaker(
    "wmtwisted component", "wmtwisted.tap.component", "One process of a component.", "wmcomponent"
)
