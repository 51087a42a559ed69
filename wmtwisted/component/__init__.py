"""Components: classes whose handlers receive messages and return what is published then."""
