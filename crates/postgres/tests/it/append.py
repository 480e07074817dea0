"""Places an order with psycopg: its row and its event are in one transaction. Prints the version, or the SQLSTATE of a refusal."""

import sys

import psycopg
from psycopg.types.json import Jsonb

url, order, expected, end = sys.argv[1:]

try:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO orders (id) VALUES (%s)", [order])
        append = "SELECT ensue.append('Order', %s, 'OrderPlaced', %s, %s)"
        row = connection.execute(append, [order, Jsonb({"total": 5.5}), int(expected)]).fetchone()
        if end == "ROLLBACK":
            connection.rollback()
    print(row[0])
except psycopg.Error as refusal:
    print(refusal.sqlstate)
    sys.exit(3)
