"""The server: one detached process per user and name, hosting a Dask cluster.

Used by who needs one, in their process:

    launch      finds the living server, or starts it
    control     asks it, and stops it
    connection  the file that says how to reach it
    locks       who may start one, and whether one lives
    options     what it can be asked to be

In the server's own process, from its first line to its last:

    main        how a process becomes a server
    handshake   what it tells the process that started it
    process     its life: start, watch, orderly end
    cluster     the Dask cluster in it
    log         its log file
    reaper      ends processes for good
"""
