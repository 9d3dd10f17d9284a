"""ServingCheck: loads an export as a server would, in a fresh process, and hands a stamped copy to Pusher."""
