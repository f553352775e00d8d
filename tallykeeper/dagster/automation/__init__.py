"""When tallies are refreshed, audited and repaired: jobs, schedules, sensor."""
