"""The broker: routing, queues, triggers and settling as pure logic, and one service around it."""
