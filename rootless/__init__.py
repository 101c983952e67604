"""User namespaces, system calls, cgroups and the supervisor; knows no other package."""
