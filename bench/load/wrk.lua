-- The same closed loop by wrk, to check this client against another one:
--
--   .venv/bin/python -c "from bench.photos import crop_files as c; open('crop.jpg','wb').write(c(1)[0])"
--   CROP=crop.jpg TOKEN=... wrk -t1 -c16 -d10s --latency -s bench/load/wrk.lua 'http://127.0.0.1:8000/v1/embed?input=crop'
--   .venv/bin/python -m bench http --url http://127.0.0.1:8000 --token ... --file crop.jpg --connections 16 --loads 0.5
--
-- wrk counts an answer of any status; the lines at the end say how many were none of 2xx or 3xx.

local file = assert(io.open(os.getenv("CROP"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "image/jpeg"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("TOKEN")
